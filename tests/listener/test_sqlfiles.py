"""The loader of named queries, and the queries themselves."""

from __future__ import annotations

import re

import pytest

from datastore_dumper.errors import DumperError
from datastore_dumper.sqlfiles import parse_queries, query, sql_directory


def test_queries_are_split_by_name() -> None:
    text = "-- about the file\n-- name: one\nSELECT 1;\n-- name: two\n-- why\nSELECT\n 2;\n"
    assert parse_queries(text, "x.sql") == {"one": "SELECT 1;", "two": "-- why\nSELECT\n 2;"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("SELECT 1;\n-- name: a\nSELECT 2;", "before its first"),
        ("-- name: a\nSELECT 1;\n-- name: a\nSELECT 2;", "twice"),
        ("-- name: a\n-- nothing here\n", "no SQL"),
    ],
)
def test_a_damaged_file_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(DumperError, match=complaint):
        parse_queries(text, "x.sql")


def test_every_query_is_used_and_every_used_one_exists() -> None:
    named = {
        name
        for path in (sql_directory() / "queries").glob("*.sql")
        for name in parse_queries(path.read_text(encoding="utf-8"), path.name)
    }
    package = sql_directory().parent / "listener" / "datastore_dumper"
    used = {
        name
        for path in package.rglob("*.py")
        for name in re.findall(r'query\("(\w+)"\)', path.read_text(encoding="utf-8"))
    }
    assert named == used
    assert all(query(name) for name in named)
