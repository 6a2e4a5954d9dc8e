"""What a source of settings hands over: values with their origin, and problems. Knows no source and no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path as FilePath

from datastore_dumper.config.fields import Path
from datastore_dumper.errors import ConfigError
from datastore_dumper.words import printable

_MAX_SHOWN_CHARACTERS = 60


@dataclass(frozen=True)
class Given:
    """A value that somebody gave to a setting."""

    value: object
    origin: str
    """Where: "/etc/dumper.yaml, line 3, column 5", "environment variable X"."""
    hint: str = ""
    """The way out in case the value's type is wrong."""
    file: FilePath | None = None
    """The file that holds the value, if one does: who can read that can read the value."""


@dataclass
class Layer:
    """All that one source gave."""

    values: dict[Path, Given] = field(default_factory=dict)
    sections: dict[Path, str] = field(default_factory=dict)
    """Origin of each section that is there: what lacks something points at it."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong. `origin` may be empty; `text` names the setting."""

    origin: str
    text: str
    hint: str = ""


def one_line(text: str) -> str:
    """The printable text, cut to a length that can be read."""
    clean = printable(text)
    return clean if len(clean) <= _MAX_SHOWN_CHARACTERS else clean[:_MAX_SHOWN_CHARACTERS] + "..."


def shown(value: object) -> str:
    """A value as a message may show it. Not for secrets."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return one_line(f"[{', '.join(str(item).lower() if isinstance(item, bool) else str(item) for item in value)}]")
    return f'"{one_line(value)}"' if isinstance(value, str) else one_line(str(value))


def raise_problems(problems: Sequence[Problem]) -> None:
    """Raises `ConfigError` for the first problem, in at most three lines: what, the way out, how many more there are.

    Does nothing if there is none.
    """
    if not problems:
        return
    first, *others = problems
    lines = [first.hint] if first.hint else []
    if others:
        lines.append(f"({len(others)} more problem{'' if len(others) == 1 else 's'}.)")
    raise ConfigError(f"{first.origin}: {first.text}" if first.origin else first.text, hint="\n".join(lines))
