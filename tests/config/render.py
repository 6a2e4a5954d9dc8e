"""Writes configuration files for tests from the list of settings, and knows in which line each setting ends up."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from datastore_dumper.config import load_config
from datastore_dumper.config.fields import Path as SettingPath
from datastore_dumper.config.fields import outline, settings
from datastore_dumper.errors import EXIT_CONFIG, ConfigError


def yaml_text(value: object) -> str:
    """JSON is YAML: a tuple becomes a flow list, text gets its quotes."""
    return json.dumps(value)


def valid_values() -> dict[SettingPath, str]:
    """A right value, as YAML, for every setting but the files of secrets, whose secrets are given."""
    return {
        path: yaml_text(s.example)
        for path, s in settings().items()
        if not path[-1].endswith("_file") or path[-1] == "ca_file"
    }


@dataclass(frozen=True)
class Rendered:
    text: str
    places: Mapping[SettingPath, tuple[int, int]]
    """Line and column of each value, from 1."""


def render(values: Mapping[SettingPath, str]) -> Rendered:
    """A YAML file of these values in the model's order, one setting to a line."""
    lines: list[str] = []
    places: dict[SettingPath, tuple[int, int]] = {}
    for entry in outline():
        indent = "  " * (len(entry.path) - 1)
        if entry.path in values:
            lead = f"{indent}{entry.path[-1]}: "
            lines.append(f"{lead}{values[entry.path]}")
            places[entry.path] = (len(lines), len(lead) + 1)
        elif entry.path and any(path[: len(entry.path)] == entry.path for path in values):
            lines.append(f"{indent}{entry.path[-1]}:")
    return Rendered("\n".join(lines) + "\n", places)


def variables(values: Mapping[str, object]) -> dict[str, str]:
    """The environment that gives settings, by dotted name, these values. None is not given."""
    return {
        settings()[tuple(name.split("."))].variable: str(value) for name, value in values.items() if value is not None
    }


def refusal(path: Path | None, environ: Mapping[str, str] | None = None) -> str:
    """The message for a configuration that must be refused, after the checks that hold for each of them."""
    with pytest.raises(ConfigError) as caught:
        load_config(path, environ or {})
    message = str(caught.value)
    assert caught.value.exit_code == EXIT_CONFIG == 78
    assert len(message.splitlines()) <= 3, message
    assert message.isprintable() or set("".join(c for c in message if not c.isprintable())) == {"\n"}
    return message
