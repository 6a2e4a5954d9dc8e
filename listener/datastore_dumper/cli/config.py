"""`datastore-dumper config`: check the configuration and show what came of it."""

from __future__ import annotations

import os
from pathlib import Path

import click

from datastore_dumper.cli.options import config_option
from datastore_dumper.config import load
from datastore_dumper.config.fields import settings
from datastore_dumper.config.model import Config, Section
from datastore_dumper.logs import mask_text


@click.group()
def config() -> None:
    """Check and show the configuration."""


@config.command()
@config_option
def validate(config_path: Path | None) -> None:
    """Read the configuration and say whether it is right. Touches neither database nor storage."""
    load(config_path, os.environ)
    click.echo("The configuration is valid.")


@config.command()
@config_option
def show(config_path: Path | None) -> None:
    """Every setting's value, secrets masked, and where it comes from."""
    loaded = load(config_path, os.environ)
    rows = [
        (
            setting.name,
            mask_text(_shown(_value(loaded.config, setting.name))),
            loaded.sources.get(setting.name, "default"),
        )
        for setting in settings().values()
    ]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, value, source in rows:
        click.echo(f"{name:{widths[0]}}  {value:{widths[1]}}  {source}")


def _value(config: Config, name: str) -> object:
    value: object = config
    for part in name.split("."):
        value = getattr(value, part) if isinstance(value, Section) else None
    return value


def _shown(value: object) -> str:
    """SecretStr masks itself."""
    if value is None:
        return "-"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
