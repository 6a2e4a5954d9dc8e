"""Which requests a ready file can answer, judged from its arguments alone. All else is CKAN's to answer.

The rules are those of `dump_schema` and `dump` in CKAN's ckanext/datastore/blueprint.py, the same from 2.10 to 2.12.
Where CKAN is lenient (an empty `limit`, `offset=+0`, a repeated argument), this is strict: CKAN's own
answer is always right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

FORMATS = ("csv", "tsv", "json", "xml")
"""CKAN's DUMP_FORMATS. Others get its 400."""

NARROWING = frozenset({"limit", "filters", "q", "full_text", "distinct", "plain", "language", "fields"})
"""Arguments that choose rows or columns, or belong to one that does."""

_UNDERSTOOD = NARROWING | {"format", "bom", "offset", "sort", "latest"}
_FROM_THE_START = ("", "0")
_IN_TABLE_ORDER = ("", "_id", "_id asc")
_TRUE = ("true", "yes", "t", "y", "1")  # CKAN's boolean_validator; all else is false


@dataclass(frozen=True)
class DumpRequest:
    """A whole table is wanted, in table order."""

    name: str
    """Resource id or alias, as typed."""
    extension: str
    """One of `FORMATS`."""
    bom: bool

    @property
    def format(self) -> str:
        """What the published file is called in the database: the extension, then `-bom` if it starts with the mark."""
        return f"{self.extension}-bom" if self.bom else self.extension


@dataclass(frozen=True)
class NotAnswerable:
    """No ready file has this answer."""

    reason: str


def parse(name: str, args: Iterable[tuple[str, str]]) -> DumpRequest | NotAnswerable:
    """Read the arguments of `/datastore/dump/<name>`, in the order given, repeated ones included."""
    pairs = [(key, value) for key, value in args if key in _UNDERSTOOD]
    repeated = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
    if repeated:
        return NotAnswerable(f"repeated argument: {repeated[0]}")
    given = dict(pairs)
    narrowing = sorted(NARROWING & given.keys())
    if narrowing:
        return NotAnswerable(f"part of the table is wanted: {', '.join(narrowing)}")
    if _is_true(given.get("latest", "")):
        return NotAnswerable("live data is wanted: latest")
    if given.get("offset", "") not in _FROM_THE_START:
        return NotAnswerable("part of the table is wanted: offset")
    if given.get("sort", "") not in _IN_TABLE_ORDER:
        return NotAnswerable("another order is wanted: sort")
    extension = given.get("format", "") or "csv"
    if extension not in FORMATS:
        return NotAnswerable("not one of CKAN's formats")
    return DumpRequest(name, extension, bom=_is_true(given.get("bom", "")))


def _is_true(value: str) -> bool:
    return value.lower() in _TRUE
