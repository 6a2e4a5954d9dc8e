"""`datastore-dumper run`: the daemon."""

from __future__ import annotations

from pathlib import Path

import click

from datastore_dumper.cli.options import config_option, database_of, read_config
from datastore_dumper.config.storage import storage_settings
from datastore_dumper.daemon import Daemon
from datastore_dumper.errors import EXIT_FAILURE
from datastore_dumper.logs import configure_logging
from datastore_dumper.storage.settings import open_storage


@click.command()
@config_option
@click.option("--once", is_flag=True, help="Publish all that has changed, whatever its quiet time, and exit.")
def run(config_path: Path | None, once: bool) -> int:
    """Watch the DataStore's tables and keep their files up to date."""
    config = read_config(config_path)
    configure_logging(config.log.format, config.log.level)
    storage = open_storage(storage_settings(config))
    daemon = Daemon(config, database_of(config), storage, lambda: read_config(config_path))
    daemon.check()
    if not once:
        daemon.run()
        return 0
    return EXIT_FAILURE if daemon.run_once() else 0
