"""Loads the configuration: environment over file over CKAN's ini over default, with each value's origin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from datastore_dumper.config import secret_files
from datastore_dumper.config.ckan_ini import CKAN_INI_VARIABLE, name_daemon, read_ckan_ini
from datastore_dumper.config.environ_source import read_environment
from datastore_dumper.config.fields import Path, Setting, sections, settings
from datastore_dumper.config.given import Given, Layer, Problem, raise_problems, shown
from datastore_dumper.config.model import Config
from datastore_dumper.config.yaml_source import read_yaml
from datastore_dumper.words import printable


@dataclass(frozen=True)
class LoadedConfig:
    """A valid configuration and where it comes from."""

    config: Config
    sources: Mapping[str, str]
    """By dotted name: a file with line and column, a file with CKAN's key, an environment variable, or "default"."""
    files: Mapping[str, FilePath]
    """By dotted name, of the values that are in a file: which one, as it was named."""


def load_config(path: FilePath | None, environ: Mapping[str, str]) -> Config:
    """`load` for those who need no origins."""
    return load(path, environ).config


def load(path: FilePath | None, environ: Mapping[str, str]) -> LoadedConfig:
    """Read, merge and check all settings.

    `path` is the YAML file (None: no file), `environ` the process's environment, which may name CKAN's ini.

    Raises `ConfigError` with at most three lines that name the place, the setting and the way out, and show no secret.
    """
    problems: list[Problem] = []
    ckan_ini = environ.get(CKAN_INI_VARIABLE)
    from_ckan = read_ckan_ini(FilePath(ckan_ini), environ) if ckan_ini else Layer()
    layers = (
        from_ckan,
        read_yaml(path, problems) if path is not None else Layer(),
        read_environment(environ, problems),
    )
    values: dict[Path, Given] = {}
    origins: dict[Path, str] = {}
    for layer in layers:
        secret_files.refuse_both(layer.values, problems)
        secret_files.overlay(values, layer.values)
        origins = {**layer.sections, **origins}
    name_daemon(values, from_ckan)
    raise_problems(problems)
    secret_files.read_secrets(values, environ, problems)
    raise_problems(problems)
    nowhere = printable(str(path)) if path is not None else "configuration"
    config = _validate(values, {**origins, (): nowhere})
    sources = {s.name: values[s.path].origin if s.path in values else "default" for s in settings().values()}
    files = {settings()[at].name: given.file for at, given in values.items() if given.file is not None}
    return LoadedConfig(config, MappingProxyType(sources), MappingProxyType(files))


def _validate(values: Mapping[Path, Given], origins: Mapping[Path, str]) -> Config:
    try:
        return Config.model_validate(_nest(values))
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
    # One problem for each setting: a list with two wrong items is one wrong setting.
    by_setting: dict[Path, Problem] = {}
    for detail in details:
        path = _path(detail)
        by_setting.setdefault(path, _explain(settings()[path], detail, values, origins))
    raise_problems(list(by_setting.values()))
    raise AssertionError("a ValidationError without errors")


def _nest(values: Mapping[Path, Given]) -> dict[str, Any]:
    """The tree that the model wants. Sections that always exist are in it, so that what lacks is a setting."""
    tree: dict[str, Any] = {}
    needed = [path for path, section in sections().items() if section.required and path]
    for path in (*needed, *(path[:-1] for path in values)):
        branch = tree
        for key in path:
            branch = branch.setdefault(key, {})
    for path, given in values.items():
        branch = tree
        for key in path[:-1]:
            branch = branch[key]
        branch[path[-1]] = given.value
    return tree


def _path(detail: ErrorDetails) -> Path:
    """Of the setting that the model refuses."""
    context = detail.get("ctx", {})
    location = tuple(str(part) for part in detail["loc"])
    path = (*location, context["key"]) if detail["type"] == "setting" and context["key"] else location
    while path not in settings():
        path = path[:-1]
    return path


def _explain(
    setting: Setting, detail: ErrorDetails, values: Mapping[Path, Given], origins: Mapping[Path, str]
) -> Problem:
    """What the model refuses, in words of ours: its own messages speak of Python and may quote the value."""
    context, path = detail.get("ctx", {}), setting.path
    given = values.get(path)
    nearest = next(path[:depth] for depth in range(len(path) - 1, -1, -1) if path[:depth] in origins)
    origin = given.origin if given else origins[nearest]
    if detail["type"] == "setting":
        return Problem(origin, f"{setting.name} {context['reason']}", context["hint"])
    if given is None:
        return Problem(origin, f"{setting.name} is missing", _ways_to_give(setting))
    if given.value is None:
        return Problem(origin, f"{setting.name} is empty: it must be {setting.expects}")
    value = "this value" if setting.secret else shown(given.value)
    return Problem(origin, f"{setting.name} must be {setting.expects}, not {value}", given.hint)


def _ways_to_give(setting: Setting) -> str:
    twin = secret_files.twin(setting)
    file = f", or in a file named by {'.'.join(twin)}" if twin in settings() else ""
    return f"Set it in the file or as {setting.variable}{file}."
