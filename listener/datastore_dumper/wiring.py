"""What the parts of the daemon want of the configuration, each in its own words."""

from __future__ import annotations

from datastore_dumper.config import Config
from datastore_dumper.database import Database
from datastore_dumper.due import Debounce
from datastore_dumper.formats import Compat, file_format
from datastore_dumper.source import Standby
from datastore_dumper.worker import WorkSettings


def debounce_of(config: Config) -> Debounce:
    """The debounce of the configuration."""
    return Debounce(
        config.debounce.quiet_seconds,
        config.debounce.max_delay_seconds,
        config.export.retry_initial_seconds,
        config.export.retry_max_seconds,
    )


def work_settings(config: Config) -> WorkSettings:
    """The worker's part of the configuration."""
    return WorkSettings(
        formats=tuple(file_format(name) for name in config.export.formats),
        compat=Compat(
            config.ckan.compat,
            config.ckan.ms_in_timestamp,
            labels=config.export.header == "labels",
            omit_id=config.export.omit_id,
        ),
        ckan_read_role=config.roles.ckan_read,
        lock_timeout_seconds=config.export.lock_timeout_seconds,
        segment_bytes=config.export.segment_bytes,
        retry_initial_seconds=config.export.retry_initial_seconds,
        retry_max_seconds=config.export.retry_max_seconds,
        retain_seconds=config.storage.link_expiry_seconds + config.storage.grace_seconds,
    )


def standby_of(config: Config) -> Standby | None:
    """The standby that exports read, if there is one."""
    dsn = config.database.replica_dsn
    if dsn is None:
        return None
    database = Database(dsn.get_secret_value(), config.database.connect_timeout_seconds)
    return Standby(database, config.database.replica_wait_seconds)
