"""What the parts of the daemon want of the configuration, each in its own words."""

from __future__ import annotations

from datastore_dumper.choice import FormatRule, Selection
from datastore_dumper.config import Config
from datastore_dumper.database import Database
from datastore_dumper.due import Debounce
from datastore_dumper.formats import Compat, file_format
from datastore_dumper.standby import Standby
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
        selection=(selection := selection_of(config)),
        formats=tuple(file_format(name) for name in selection.all_formats),
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


def selection_of(config: Config) -> Selection:
    """Which tables are to have files."""
    tables = config.tables
    parted = [rule.rpartition("=") for rule in tables.formats or ()]
    return Selection(
        formats=config.export.formats,
        include=tables.include,
        exclude=tables.exclude or (),
        min_rows=tables.min_rows,
        min_bytes=tables.min_bytes,
        rules=tuple(FormatRule(pattern, tuple(names.split())) for pattern, _, names in parted),
        on_demand=tables.policy == "on_demand",
        unasked_days=tables.unasked_days,
    )


def standby_of(config: Config) -> Standby | None:
    """The standby that exports read, if there is one."""
    dsn = config.database.replica_dsn
    if dsn is None:
        return None
    database = Database(dsn.get_secret_value(), config.database.connect_timeout_seconds)
    return Standby(database, config.database.replica_wait_seconds)
