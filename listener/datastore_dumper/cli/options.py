"""Options that several commands share, and what becomes of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import click

from datastore_dumper.config import Config, load_config
from datastore_dumper.config.environ_source import CONFIG_FILE_VARIABLE
from datastore_dumper.database import Database

config_option = click.option(
    "-c",
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    envvar=CONFIG_FILE_VARIABLE,
    show_envvar=True,
    help="The configuration file (YAML). Without one, everything comes from the environment.",
)


def read_config(path: Path | None, overrides: Mapping[str, object] | None = None) -> Config:
    """The configuration of this process. Raises `ConfigError`."""
    return load_config(path, os.environ, overrides or {})


def database_of(config: Config) -> Database:
    """The database that `database.*` describes."""
    return Database(config.database.dsn.get_secret_value(), config.database.connect_timeout_seconds)
