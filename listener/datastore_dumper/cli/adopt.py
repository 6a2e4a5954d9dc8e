"""`datastore-dumper adopt`: what the operator says when a database takes the place of the one whose files the storage holds."""

from __future__ import annotations

from pathlib import Path

import click

from datastore_dumper.cli.options import config_option, database_of, read_config
from datastore_dumper.config.storage import storage_settings
from datastore_dumper.database import database_errors
from datastore_dumper.errors import ForeignStorageError
from datastore_dumper.install import require_installed
from datastore_dumper.ownership import Ownership
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
    ownership = Ownership(
        open_storage(storage_settings(config)), config.storage.link_expiry_seconds + config.storage.grace_seconds
    )
    with database_of(config).connect("adopt") as connection, database_errors():
        require_installed(connection)
        try:
            ownership.settle(connection)
        except ForeignStorageError as error:
            click.echo(error.message, err=True)
        else:
            click.echo("The storage is this database's: there is nothing to adopt.")
            return
        if not yes:
            click.confirm("Does this database take its place, and no daemon of the other run any more?", abort=True)
        ownership.adopt(connection)
    click.echo("Adopted. The daemon makes all files again.")
