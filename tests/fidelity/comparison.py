"""Asks CKAN and the daemon for the same file, and tells where and how they differ."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import urllib3

from tests.fidelity.recipes import Recipe
from tests.support.ckan_site import CkanSite

FORMATS = tuple(name + bom for name in ("csv", "tsv", "json", "xml") for bom in ("", "-bom"))

_CONTEXT_BYTES = 60
# An error in CKAN's log, below its traceback.
_ERROR = re.compile(r"^(?:\w+\.)*(\w*(?:Error|Exception|Undefined\w+|Invalid\w+)): (.*)$", re.M)


SENSIBLE = (
    # CKAN or SQLAlchemy takes what stands in a column's name for something else, so no query of that release is right.
    "InvalidRequestError: A value is required for bind parameter",
    "UndefinedColumn: column ",
    "ValidationError: None - {'query': ['Query is not a single statement.']}",
    # A column has the name that CKAN's query gives to whole rows.
    "TypeError: ",
    # CSV, TSV and XML do not show the comment that CKAN fails to read.
    "InvalidTextRepresentation: invalid input syntax for type json",
)
"""How the errors begin in spite of which a file is right: docs/reference/refused-dumps.md has each of them."""
_PLACE = re.compile(r" - at .*| \((?:byte|Background) .*| in position .*|; use sys.*")
"""The part of a message that is different for each file."""


@dataclass(frozen=True)
class Refusal:
    """CKAN's answer where it fails: an HTTP status, or 0 for a download that broke off."""

    status: int

    def __str__(self) -> str:
        return f"HTTP {self.status}" if self.status else "the download breaks off"


@dataclass(frozen=True)
class Difference:
    recipe: Recipe
    format: str
    round: str
    told: str

    def __str__(self) -> str:
        return f"{self.format} of {self.recipe}, {self.round}\n{self.told}"


@dataclass(frozen=True)
class Refused:
    """A file that CKAN fails to send, and whether the daemon has made one."""

    recipe: Recipe
    format: str
    reason: str
    ours: bytes | None


def ask_ckan(site: CkanSite, http: urllib3.PoolManager, recipe: Recipe, format_name: str) -> bytes | Refusal:
    """CKAN's dump, over HTTP as anybody gets it. By the alias for every other format of a table that has one."""
    plain = format_name.removesuffix("-bom")
    name = recipe.alias if recipe.alias and plain in ("tsv", "xml") else recipe.resource_id
    bom = "&bom=True" if plain != format_name else ""
    try:
        response = http.request("GET", f"{site.url}/datastore/dump/{quote(name)}?format={plain}{bom}", redirect=False)
    except (urllib3.exceptions.ProtocolError, urllib3.exceptions.IncompleteRead):
        return Refusal(0)
    return response.data if response.status == 200 else Refusal(response.status)


def ask_again(
    site: CkanSite, http: urllib3.PoolManager, recipe: Recipe, format_name: str
) -> tuple[bytes | Refusal, str]:
    """CKAN's answer when it has nothing else to do, and for a refusal the error that it logs."""
    before = len(site.logs)
    answer = ask_ckan(site, http, recipe, format_name)
    if not isinstance(answer, Refusal):
        return answer, ""
    errors = _ERROR.findall(site.logs[before:])
    name, message = errors[0] if errors else ("nothing is logged", "")
    return answer, f"{answer}, {name}: {_PLACE.sub('', message)}".rstrip(": ")


def difference(ckans: bytes, ours: bytes | None, failure: str | None, format_name: str) -> str | None:
    """What a person needs to know to find the cause, or None if there is no difference."""
    if ours is None:
        return f"  CKAN sends a file, we have none: {failure}"
    if ckans == ours:
        return None
    offset = next(
        (at for at, (a, b) in enumerate(zip(ckans, ours, strict=False)) if a != b), min(len(ckans), len(ours))
    )
    around = slice(max(0, offset - _CONTEXT_BYTES), offset + _CONTEXT_BYTES)
    where = _cell(ckans, ours, offset, format_name.removesuffix("-bom"))
    line = ckans.count(b"\n", 0, offset) + 1
    return (
        f"  at byte {offset} of {len(ckans)} (CKAN) and {len(ours)} (ours), line {line}{where}\n"
        f"  CKAN: {ckans[around]!r}\n"
        f"  ours: {ours[around]!r}"
    )


def _cell(ckans: bytes, ours: bytes, offset: int, format_name: str) -> str:
    """The column of the difference, where it can be told."""
    if format_name == "xml":
        tags = re.findall(rb"<([^/\s>]+)[^<]*$", ckans[:offset])
        return f", in element {tags[-1].decode(errors='replace')!r}" if tags else ""
    try:
        tables = [_table(content, format_name) for content in (ckans, ours)]
    except (ValueError, csv.Error, LookupError):
        return ""
    header = tables[0][0]
    for number, (row, other) in enumerate(zip(tables[0], tables[1], strict=False)):
        for column, (cell, other_cell) in enumerate(zip(row, other, strict=False)):
            if repr(cell) != repr(other_cell):
                return f", column {header[column]!r}, row {number}"
    return ""


def _table(content: bytes, format_name: str) -> list[list[Any]]:
    text = content.decode("utf-8-sig")
    if format_name == "json":
        document: Mapping[str, Any] = json.loads(text)
        return [[column["id"] for column in document["fields"]], document["fields"], *document["records"]]
    return list(csv.reader(io.StringIO(text, newline=""), delimiter="," if format_name == "csv" else "\t"))
