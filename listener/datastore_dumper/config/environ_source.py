"""Settings from environment variables: text that the setting's type explains."""

from __future__ import annotations

import re
from collections.abc import Mapping

from datastore_dumper.config.ckan_ini import CKAN_INI_VARIABLE
from datastore_dumper.config.fields import VARIABLE_PREFIX, Path, settings
from datastore_dumper.config.given import Given, Layer, Problem, one_line
from datastore_dumper.config.scalars import from_text
from datastore_dumper.config.suggest import closest

CONFIG_FILE_VARIABLE = VARIABLE_PREFIX + "CONFIG"
"""Names the configuration file. Read by the command line, and no setting: a file cannot say where it is."""

INSTALL_DSN_VARIABLE = VARIABLE_PREFIX + "INSTALL_DSN"
"""Whom `install` connects as. No setting either: the daemon must not have it."""

_NO_SETTINGS = (CONFIG_FILE_VARIABLE, INSTALL_DSN_VARIABLE, CKAN_INI_VARIABLE)

# Kubernetes puts these into every pod beside a service named datastore-dumper
# (Kubernetes documentation, "Service", section "Environment variables").
_SERVICE_LINK = re.compile(
    VARIABLE_PREFIX + r"(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT(?:_[0-9]+_(?:TCP|UDP|SCTP)(?:_[A-Z]+)?)?)"
)


def _hint_for(variable: str) -> str:
    # Single underscores where double ones belong are the usual slip, so words are compared without regard to them.
    variables = {"_".join(setting.path): setting.variable for setting in settings().values()}
    near = closest(variable.removeprefix(VARIABLE_PREFIX).replace("__", "_"), variables)
    return f"Did you mean {variables[near]}?" if near else f"Names are {VARIABLE_PREFIX}<SECTION>__<KEY>."


def read_environment(environ: Mapping[str, str], problems: list[Problem]) -> Layer:
    """Settings from the variables that begin with `VARIABLE_PREFIX`; all others are not looked at."""
    by_variable = {setting.variable: setting for setting in settings().values()}
    given: dict[Path, Given] = {}
    for variable, text in sorted(environ.items()):
        if not variable.startswith(VARIABLE_PREFIX) or variable in _NO_SETTINGS:
            continue
        origin = f"environment variable {one_line(variable)}"
        setting = by_variable.get(variable)
        if setting is None:
            if not _SERVICE_LINK.fullmatch(variable):
                problems.append(Problem(origin, "sets nothing: there is no such setting", _hint_for(variable)))
        elif not text:
            problems.append(Problem(origin, f"{setting.name} is empty", "Give it a value, or unset the variable."))
        else:
            given[setting.path] = Given(from_text(setting, text), origin)
    sections = {path[:depth]: one.origin for path, one in given.items() for depth in range(len(path))}
    return Layer(given, sections)
