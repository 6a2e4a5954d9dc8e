"""Finds the project's SQL. It lives in `sql/` beside the packages; the wheel ships it inside `datastore_dumper`.

`query(name)` gives a named query of `sql/queries/*.sql`: everything after a line `-- name: <name>` up to the next one.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from datastore_dumper.errors import DumperError

if TYPE_CHECKING:
    from typing_extensions import LiteralString

_NAME = re.compile(r"^-- name: *(\w+) *$", re.MULTILINE)


@cache
def sql_directory() -> Path:
    """The directory `sql/`: in the installed package, or in the checkout of an editable install."""
    package = Path(__file__).parent
    for candidate in (package / "sql", package.parent.parent / "sql"):
        if (candidate / "migrations").is_dir():
            return candidate
    raise DumperError(f"The SQL files are missing from {package}", hint="Install the distribution again.")


def read_sql(path: str) -> str:
    """The text of a file under `sql/`."""
    return (sql_directory() / path).read_text(encoding="utf-8")


def parse_queries(text: str, source: str) -> dict[str, str]:
    """Split a file of named queries. Raises `DumperError` for text outside a query, an empty query, a name used twice."""
    before, *pieces = _NAME.split(text)
    if re.sub(r"--.*", "", before).strip():
        raise DumperError(f"{source} has SQL before its first '-- name:' line")
    found: dict[str, str] = {}
    for name, body in zip(pieces[::2], pieces[1::2], strict=True):
        if name in found:
            raise DumperError(f"{source} names the query {name} twice")
        if not re.sub(r"--.*", "", body).strip():
            raise DumperError(f"{source} has no SQL for the query {name}")
        found[name] = body.strip()
    return found


@cache
def _all_queries() -> dict[str, str]:
    found: dict[str, str] = {}
    for path in sorted((sql_directory() / "queries").glob("*.sql")):
        for name, body in parse_queries(path.read_text(encoding="utf-8"), path.name).items():
            if name in found:
                raise DumperError(f"{path.name} names the query {name}, which another file has too")
            found[name] = body
    return found


def query(name: str) -> LiteralString:
    """The named query. It is our own text, hence literal: no input ever becomes part of it."""
    return _all_queries()[name]
