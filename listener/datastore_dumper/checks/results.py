"""What a check found. Knows no check and no way to show it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from datastore_dumper.config import LoadedConfig
from datastore_dumper.config.model import Config
from datastore_dumper.database import Database
from datastore_dumper.errors import EXIT_FAILURE, DumperError
from datastore_dumper.storage.base import Storage

Status = Literal["ok", "warning", "failed"]

_SHOWN_NAMES = 3


@dataclass(frozen=True)
class Result:
    """One line of the report. `name` is stable: scripts may rely on it."""

    name: str
    status: Status
    found: str
    mend: str = ""
    """How to mend it; empty if it is ok."""
    exit_code: int = 0
    """Of the command, if this is the first that failed."""


@dataclass(frozen=True)
class Subject:
    """What is checked. Nothing of it has been touched yet."""

    loaded: LoadedConfig
    database: Database
    storage: Storage

    @property
    def config(self) -> Config:
        return self.loaded.config


def ok(name: str, found: str) -> Result:
    return Result(name, "ok", found)


def warning(name: str, found: str, mend: str) -> Result:
    return Result(name, "warning", found, mend)


def failed(name: str, found: str, mend: str, exit_code: int = EXIT_FAILURE) -> Result:
    return Result(name, "failed", found, mend, exit_code)


def of_error(name: str, error: DumperError) -> Result:
    """An error of ours says what is wrong and the way out by itself."""
    return failed(name, error.message, error.hint, error.exit_code)


def some(names: Iterable[str]) -> str:
    """A few of the names, and how many more there are."""
    listed = list(names)
    more = len(listed) - _SHOWN_NAMES
    return ", ".join(listed[:_SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "")


def worst(results: Iterable[Result]) -> Status:
    """The status of the whole."""
    found = {result.status for result in results}
    return "failed" if "failed" in found else "warning" if "warning" in found else "ok"


def exit_code(results: Iterable[Result]) -> int:
    """Checks go from the ground up, so the first one that failed is why."""
    return next((result.exit_code for result in results if result.status == "failed"), 0)
