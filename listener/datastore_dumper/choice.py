"""Which tables get files, and in which formats. Pure functions of settings, what is known of a table, and the clock.

The reconciler asks for all tables, the worker for the one that it exports, with its rows counted in the snapshot.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Literal

Verdict = Literal["always", "on_demand", "excluded", "too_small", "not_asked"]
"""The last three: there are no files."""

ANYTHING = ("*",)


@dataclass(frozen=True)
class FormatRule:
    """The formats of the tables whose resource ids a pattern fits."""

    pattern: str
    formats: tuple[str, ...]


@dataclass(frozen=True)
class Selection:
    """What the configuration says. In patterns, `*` stands for any characters and `?` for one; they fit whole ids."""

    formats: tuple[str, ...]
    """Of tables that no rule fits."""
    include: tuple[str, ...] = ANYTHING
    exclude: tuple[str, ...] = ()
    min_rows: int = 0
    min_bytes: int = 0
    rules: tuple[FormatRule, ...] = ()
    """The first that fits counts."""
    on_demand: bool = False
    """Only tables that somebody asked for in the last `unasked_days` get files."""
    unasked_days: int = 30

    @property
    def all_formats(self) -> tuple[str, ...]:
        """Those that any table may have."""
        return tuple(dict.fromkeys([*self.formats, *(name for rule in self.rules for name in rule.formats)]))

    @property
    def measures(self) -> bool:
        """Whether the size of a table decides anything."""
        return bool(self.min_rows or self.min_bytes)

    def wanted_formats(self, resource_id: str) -> tuple[str, ...]:
        """The formats of this table, if it gets files."""
        for rule, fits in self._rules:
            if fits.fullmatch(resource_id):
                return rule.formats
        return self.formats

    def exclusion(self, resource_id: str) -> str | None:
        """The reason why a table of this name never gets files, if there is one."""
        for pattern, fits in self._excluded:
            if fits.fullmatch(resource_id):
                return f"tables.exclude has {pattern}"
        if not any(fits.fullmatch(resource_id) for _, fits in self._included):
            return "no pattern in tables.include fits"
        return None

    @cached_property
    def _included(self) -> tuple[tuple[str, re.Pattern[str]], ...]:
        return tuple(_compiled(self.include))

    @cached_property
    def _excluded(self) -> tuple[tuple[str, re.Pattern[str]], ...]:
        return tuple(_compiled(self.exclude))

    @cached_property
    def _rules(self) -> tuple[tuple[FormatRule, re.Pattern[str]], ...]:
        return tuple((rule, _compile(rule.pattern)) for rule in self.rules)


@dataclass(frozen=True)
class Size:
    """Of a table. None: not known."""

    rows: int | None = None
    bytes: int | None = None
    """Of its rows in Postgres, indexes apart."""


NOT_MEASURED = Size()


@dataclass(frozen=True)
class Facts:
    """What is known of a table."""

    resource_id: str
    has_files: bool
    asked_at: datetime | None
    size: Size = NOT_MEASURED


@dataclass(frozen=True)
class Choice:
    """What is decided for a table."""

    verdict: Verdict
    detail: str | None = None
    """Why there are no files, for people."""
    formats: tuple[str, ...] = field(default=())

    @property
    def is_kept(self) -> bool:
        return self.verdict in ("always", "on_demand")


def choose(selection: Selection, facts: Facts, now: datetime) -> Choice:
    """Whether a table gets files, and which. What is not known speaks for them."""
    excluded = selection.exclusion(facts.resource_id)
    if excluded is not None:
        return Choice("excluded", excluded)
    if selection.on_demand and not _is_asked_for(selection, facts, now):
        return Choice("not_asked", _unasked(selection, facts))
    for name, size, least in (
        ("row", facts.size.rows, selection.min_rows),
        ("byte", facts.size.bytes, selection.min_bytes),
    ):
        # A table that hovers about the least size must not get its files and lose them again and again.
        if size is not None and size < (-(-least // 2) if facts.has_files else least):
            return Choice("too_small", f"{size} {name}{'' if size == 1 else 's'}: tables.min_{name}s is {least}")
    return Choice("on_demand" if selection.on_demand else "always", formats=selection.wanted_formats(facts.resource_id))


def _is_asked_for(selection: Selection, facts: Facts, now: datetime) -> bool:
    return facts.asked_at is not None and now - facts.asked_at < timedelta(days=selection.unasked_days)


def _unasked(selection: Selection, facts: Facts) -> str:
    if facts.asked_at is None:
        return "nobody has asked for it yet"
    days = selection.unasked_days
    return f"nobody has asked for it in {days} day{'' if days == 1 else 's'}"


def _compiled(patterns: tuple[str, ...]) -> Iterator[tuple[str, re.Pattern[str]]]:
    for pattern in patterns:
        yield pattern, _compile(pattern)


def _compile(pattern: str) -> re.Pattern[str]:
    wild = {"*": ".*", "?": "."}
    return re.compile("".join(wild.get(each, re.escape(each)) for each in pattern), re.DOTALL)
