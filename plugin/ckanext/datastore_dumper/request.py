"""Which requests a ready file can answer, judged from its arguments alone. All else is CKAN's to answer.

The rules are those of `dump_schema` and `dump` in CKAN's ckanext/datastore/blueprint.py, the same from 2.10 to 2.12.
Where CKAN is lenient (an empty `limit`, `offset=+0`, a repeated argument), this is strict: CKAN's own
answer is always right. Formats that CKAN does not know are the site's extra formats: what no file answers, nobody does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass

FORMATS = ("csv", "tsv", "json", "xml")
"""CKAN's DUMP_FORMATS. It refuses others."""

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
    format: str
    """As the daemon names it: one of `FORMATS`, then `-bom` if it starts with the mark, or an extra format."""
    extra: bool
    """CKAN does not know the format."""


@dataclass(frozen=True)
class NotAnswerable:
    """No ready file has this answer."""

    format: str
    extra: bool
    arguments: tuple[str, ...]
    """Those that no file can heed."""


def parse(
    name: str, args: Iterable[tuple[str, str]], extra_formats: Collection[str] = ()
) -> DumpRequest | NotAnswerable:
    """Read the arguments of `/datastore/dump/<name>`, in the order given, repeated ones included."""
    pairs = [(key, value) for key, value in args if key in _UNDERSTOOD]
    given = dict(reversed(pairs))  # of a repeated argument CKAN takes the first
    format = given.get("format", "") or "csv"
    extra = format in extra_formats
    bom = _is_true(given.get("bom", ""))
    objections = {key for key, count in Counter(key for key, _ in pairs).items() if count > 1}
    objections |= NARROWING & given.keys()
    if _is_true(given.get("latest", "")):  # live data, and not a file
        objections.add("latest")
    if given.get("offset", "") not in _FROM_THE_START:
        objections.add("offset")
    if given.get("sort", "") not in _IN_TABLE_ORDER:
        objections.add("sort")
    if extra and bom:  # the mark is for what spreadsheets open as text
        objections.add("bom")
    if not extra and format not in FORMATS:
        objections.add("format")
    if objections:
        return NotAnswerable(format, extra, tuple(sorted(objections)))
    return DumpRequest(name, f"{format}-bom" if bom else format, extra)


def _is_true(value: str) -> bool:
    return value.lower() in _TRUE
