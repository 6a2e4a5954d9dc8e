"""`datastore-dumper install` and `uninstall`: the SQL side, run here or printed for a DBA."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

import click

from datastore_dumper import install as installation
from datastore_dumper.cli.options import config_option, database_of, read_config
from datastore_dumper.cli.show import bars, shown_text
from datastore_dumper.config import Config
from datastore_dumper.config.ckan_ini import CKAN_INI_VARIABLE
from datastore_dumper.config.environ_source import INSTALL_DSN_VARIABLE
from datastore_dumper.config.fields import settings
from datastore_dumper.database import Database
from datastore_dumper.errors import EXIT_FAILURE, ConfigError
from datastore_dumper.install import Roles

_Command = TypeVar("_Command", bound=Callable[..., object])
_dsn_option = click.option(
    "--dsn",
    envvar=INSTALL_DSN_VARIABLE,
    show_envvar=True,
    help="Connect with this, as a superuser or as CKAN's write role, instead of database.dsn. Passwords are better left to "
    "the environment variable or ~/.pgpass: a command line is visible to others.",
)


def _role_option(name: str, help: str) -> Callable[[_Command], _Command]:
    """Its variable is the setting's, which counts without a configuration, too."""
    variable = settings()["roles", name].variable
    return click.option(f"--{name.replace('_', '-')}-role", envvar=variable, show_envvar=True, help=help)


_json_option = click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
_print_option = click.option("--print", "print_only", is_flag=True, help="Print the SQL for psql and change nothing.")


@click.command()
@config_option
@_dsn_option
@_role_option("daemon", "The role that the daemon connects as (roles.daemon).")
@_role_option("ckan_write", "The role of ckan.datastore.write_url (roles.ckan_write).")
@_role_option("ckan_read", "The role of ckan.datastore.read_url (roles.ckan_read).")
@_print_option
@_json_option
def install(
    config_path: Path | None,
    dsn: str | None,
    daemon_role: str | None,
    ckan_write_role: str | None,
    ckan_read_role: str | None,
    print_only: bool,
    as_json: bool,
) -> int:
    """Install or upgrade tables, functions and triggers in the DataStore database. Safe to run again."""
    named = config_path is not None or CKAN_INI_VARIABLE in os.environ
    no_database = dsn is None and not print_only
    # Whoever installs need not be able to read the daemon's secrets.
    no_roles = None in (daemon_role, ckan_write_role, ckan_read_role)
    config = _read(config_path, dsn) if no_database or (named and no_roles) else None
    roles = Roles(
        daemon_role or (config.roles.daemon if config else None) or "",
        ckan_write_role or (config.roles.ckan_write if config else None) or "",
        ckan_read_role or (config.roles.ckan_read if config else None) or "",
    )
    _refuse_both(print_only, as_json)
    if print_only:
        click.echo(installation.printed_script(roles), nl=False)
        return 0
    with bars("tables") as bar:
        task = bar.add_task("Triggers", total=None)
        report = installation.install(
            _database(config, dsn), roles, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )
    if as_json:
        click.echo(json.dumps(asdict(report), ensure_ascii=False, indent=2))
        return EXIT_FAILURE if report.failed or report.unreadable else 0
    for notice in report.notices:
        _say(f"Note: {notice}")
    for resource_id, reason in report.failed.items():
        _say(f"No triggers yet on {resource_id}: {reason}")
    for resource_id, reason in report.unreadable.items():
        _say(f"The daemon may not read {resource_id} yet, run this again: {reason}")
    if not report.roles.daemon:
        _say("Note: no role was named for the daemon (--daemon-role): only who installed can run it.")
    if not report.roles.ckan_read:
        _say("Note: no read role was named (--ckan-read-role): CKAN cannot look files up.")
    if not report.tables:
        _say("Note: this database has no DataStore tables. Is it the one of ckan.datastore.write_url?")
    click.echo(f"Installed. DataStore tables: {report.tables}, newly given triggers: {report.attached}.")
    return EXIT_FAILURE if report.failed or report.unreadable else 0


@click.command()
@config_option
@_dsn_option
@_print_option
@_json_option
def uninstall(config_path: Path | None, dsn: str | None, print_only: bool, as_json: bool) -> None:
    """Remove everything that `install` put into the database. Published files stay in the storage."""
    _refuse_both(print_only, as_json)
    if print_only:
        click.echo(installation.printed_uninstall_script(), nl=False)
        return
    config = _read(config_path, dsn) if dsn is None else None
    notices = installation.uninstall(_database(config, dsn))
    if as_json:
        click.echo(json.dumps({"notices": notices}, ensure_ascii=False, indent=2))
        return
    for notice in notices:
        _say(f"Note: {notice}")
    click.echo("Uninstalled.")


def _say(text: str) -> None:
    click.echo(shown_text(text), err=True)


def _refuse_both(print_only: bool, as_json: bool) -> None:
    if print_only and as_json:
        raise click.UsageError("--print and --json exclude each other.")


def _read(config_path: Path | None, dsn: str | None) -> Config:
    if config_path is None and dsn is None and not any(name.startswith("DATASTORE_DUMPER_") for name in os.environ):
        raise ConfigError("No database was named", hint="Give --dsn, or --config with a file that has database.dsn.")
    return read_config(config_path)


def _database(config: Config | None, dsn: str | None) -> Database:
    if dsn is not None:
        return Database(dsn)
    assert config is not None, "without --dsn the configuration was read"
    return database_of(config)
