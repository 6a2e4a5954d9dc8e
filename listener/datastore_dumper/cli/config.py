"""`datastore-dumper config`: check the configuration and show what came of it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from datastore_dumper.cli.options import config_option
from datastore_dumper.config import load
from datastore_dumper.config.fields import settings, value_of
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
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(config_path: Path | None, as_json: bool) -> None:
    """Every setting's value, secrets masked, and where it comes from."""
    loaded = load(config_path, os.environ)
    rows = [
        (setting.name, value_of(loaded.config, setting.path), loaded.sources.get(setting.name, "default"))
        for setting in settings().values()
    ]
    if as_json:
        report = {name: {"value": _plain(value), "source": source} for name, value, source in rows}
        click.echo(json.dumps(report, ensure_ascii=False, indent=2))
        return
    names, values = max(len(row[0]) for row in rows), max(len(_shown(row[1])) for row in rows)
    for name, value, source in rows:
        click.echo(f"{name:{names}}  {_shown(value):{values}}  {source}")


def _shown(value: object) -> str:
    if value is None:
        return "-"
    return mask_text(", ".join(map(str, value)) if isinstance(value, tuple) else str(value))


def _plain(value: object) -> object:
    """As JSON has it. SecretStr masks itself, here and in `_shown`."""
    if value is None or isinstance(value, bool | int | float):
        return value
    return [mask_text(str(item)) for item in value] if isinstance(value, tuple) else mask_text(str(value))
