"""Options that several commands share, and what becomes of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click
from rich.console import Console

from datastore_dumper.config import Config, LoadedConfig, load
from datastore_dumper.config.ckan_ini import CKAN_INI_VARIABLE
from datastore_dumper.config.environ_source import CONFIG_FILE_VARIABLE
from datastore_dumper.database import Database
from datastore_dumper.errors import ConfigError

_WIDTH_OF_FILES = 200  # pipes and files have no width of their own

_config_file_option = click.option(
    "-c",
    "--config",
    "config_path",
    type=click.Path(path_type=Path, readable=False),
    envvar=CONFIG_FILE_VARIABLE,
    show_envvar=True,
    help="The configuration file (YAML). Without one, everything comes from the environment.",
)


def _name_ckan_ini(context: click.Context, parameter: click.Parameter, path: Path | None) -> None:
    """For whoever loads the configuration in this process, at a reload, too."""
    del context, parameter
    if path is not None:
        os.environ[CKAN_INI_VARIABLE] = str(path)


_ckan_ini_option = click.option(
    "--ckan-ini",
    type=click.Path(path_type=Path, readable=False),
    envvar=CKAN_INI_VARIABLE,
    show_envvar=True,
    expose_value=False,
    callback=_name_ckan_ini,
    help="CKAN's ini file: whatever else is not given of the database, its roles and the storage comes from there.",
)

_Command = TypeVar("_Command", bound=Callable[..., object])


def config_option(command: _Command) -> _Command:
    """Where the configuration is."""
    return _config_file_option(_ckan_ini_option(command))


def read_config(path: Path | None) -> Config:
    """The configuration of this process. Raises `ConfigError`."""
    return load_all(path).config


def load_all(path: Path | None) -> LoadedConfig:
    """The configuration of this process, and where each value comes from. Raises `ConfigError`."""
    try:
        return load(path, os.environ)
    except ConfigError as error:
        if path is not None:
            raise
        raise ConfigError(
            f"{error.message} (no configuration file was named: see --config)", hint=error.hint
        ) from error


def database_of(config: Config) -> Database:
    """The database that `database.*` describes."""
    return Database(config.database.dsn.get_secret_value(), config.database.connect_timeout_seconds)


def output_console() -> Console:
    """Standard output for people: colours only on a terminal, and none if NO_COLOR is set (no-color.org)."""
    return Console(highlight=False, emoji=False, markup=False, width=None if sys.stdout.isatty() else _WIDTH_OF_FILES)
