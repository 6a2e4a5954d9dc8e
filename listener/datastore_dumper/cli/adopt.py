"""`datastore-dumper adopt`: what the operator says when a database takes the place of the one whose files the storage holds."""

from __future__ import annotations

from pathlib import Path

import click

from datastore_dumper.cli.options import config_option, database_of, read_config
from datastore_dumper.config.storage import storage_settings
from datastore_dumper.database import Connection, database_errors
from datastore_dumper.errors import ForeignStorageError
from datastore_dumper.install import require_installed
from datastore_dumper.logs import configure_logging
from datastore_dumper.ownership import Ownership, Verdict, verdict
from datastore_dumper.storage.base import Storage
from datastore_dumper.storage.settings import open_storage


@click.command()
@config_option
@click.option("--yes", is_flag=True, help="Do not ask.")
def adopt(config_path: Path | None, yes: bool) -> None:
    """Take over a storage that holds the files of another database, or of an older state of this one.

    For a database that was restored, upgraded by dump and restore or pg_upgrade, or moved to another server. A copy beside
    the original needs a storage of its own instead. All files are made again.
    """
    config = read_config(config_path)
    configure_logging("console", "error")
    storage = open_storage(storage_settings(config))
    with database_of(config).connect("adopt") as connection, database_errors():
        require_installed(connection)
        question = _question(connection, storage)
        if question is None:
            click.echo("The storage is this database's, or nobody's yet: there is nothing to adopt.")
            return
        if not yes:
            click.confirm(question, abort=True)
        retain_seconds = config.storage.link_expiry_seconds + config.storage.grace_seconds
        Ownership(storage, lambda: retain_seconds).adopt(connection)
    click.echo("Adopted. The daemon makes all files again.")


def _question(connection: Connection, storage: Storage) -> str | None:
    """What must be answered with yes, after saying why on standard error. None: there is nothing to adopt. Changes nothing."""
    try:
        found = verdict(connection, storage)
    except ForeignStorageError as error:
        click.echo(error.message, err=True)
        return "Does this database take its place, and no daemon of the other run any more?"
    if found is not Verdict.ANOTHER_STORAGE:
        return None
    click.echo("The storage has no mark, but this database's files are in one that has: check storage.*", err=True)
    return "Shall all files be made again in this storage?"
