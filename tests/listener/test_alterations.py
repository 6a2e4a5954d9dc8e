"""What a site may have otherwise than CKAN: labels for headers, no _id."""

from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datastore_dumper.formats import Column, Compat, Table, file_format
from datastore_dumper.formats.alterations import altered, label_of

LABELS = Compat(labels=True)
ID = Column("_id", "int4")


def comment(label: object) -> str:
    """As CKAN 2.11 and later write it."""
    return " " + json.dumps({"_info": {"label": label, "notes": "n"}}, ensure_ascii=False)


def headers(table: Table) -> list[str]:
    return [column.header for column in table.columns]


@pytest.mark.parametrize(
    ("text", "label"),
    [
        (' {"_info":{"label":"Größe (m)"}}', "Größe (m)"),
        ('{"label": "From 2.10", "notes": ""}', "From 2.10"),
        (' {"_info":{"label":" trimmed "}}', "trimmed"),
        (' {"_info":{"notes":"no label"}}', None),
        (' {"_info":{"label":""}}', None),
        (' {"_info":{"label":7}}', None),
        (' {"_info":"label"}', None),
        (' {"label":"not where 2.11 looks"}', None),
        (' {"_info":{"label":"two\\nlines"}}', None),
        (' {"_info":{"label":"\\ud800"}}', None),
        ("written by a person", None),
        ("[" * 100_000, None),
        ("", None),
        (None, None),
    ],
)
def test_the_label_in_a_comment(text: str | None, label: str | None) -> None:
    assert label_of(text) == label


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"a": "Alpha", "b": None}, ["_id", "Alpha", "b"]),
        ({"a": "Same", "b": "Same", "c": "Other"}, ["_id", "a", "b", "Other"]),
        ({"a": "b", "b": None}, ["_id", "a", "b"]),
        ({"a": "b", "b": "a"}, ["_id", "a", "b"]),
        ({"a": "a", "b": "_id"}, ["_id", "a", "b"]),
    ],
)
def test_labels_are_headers_unless_two_columns_would_have_the_same(
    labels: dict[str, str | None], expected: list[str]
) -> None:
    columns = [Column(name, "text", comment(label) if label else None) for name, label in labels.items()]
    assert headers(altered(Table("t", (ID, *columns)), LABELS)) == expected


names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=3)


@given(st.dictionaries(names, names | st.none(), max_size=6))
def test_no_two_headers_are_the_same(labels: dict[str, str | None]) -> None:
    columns = tuple(Column(name, "text", comment(label)) for name, label in labels.items())
    found = altered(Table("t", columns), LABELS)
    assert len(set(headers(found))) == len(labels)
    assert [column.name for column in found.columns] == list(labels)


def test_the_id_is_left_out_unless_it_is_all_there_is() -> None:
    table = Table("t", (ID, Column("a", "text")))
    assert headers(altered(table, Compat(omit_id=True))) == ["a"]
    assert headers(altered(Table("t", (ID,)), Compat(omit_id=True))) == ["_id"]
    assert altered(table, Compat()) == table


@pytest.mark.parametrize("name", ["csv", "csv-bom", "tsv"])
def test_the_header_line(name: str) -> None:
    made = file_format(name)
    compat = made.format.compat(Compat(labels=True, omit_id=True))
    assert str(compat) == "2.12+labels+omit_id"
    table = altered(Table("t", (ID, Column("a", "text", comment('"Alpha", A')), Column("b", "text"))), compat)
    line = made.head(table, compat).decode("utf-8-sig")
    assert list(csv.reader(io.StringIO(line), delimiter="\t" if name == "tsv" else ",")) == [['"Alpha", A', "b"]]


@pytest.mark.parametrize("name", ["json", "xml-bom"])
def test_formats_that_are_not_altered_stay_ckans(name: str) -> None:
    wanted = Compat("2.12", ms_in_timestamp=False, labels=True, omit_id=True)
    assert file_format(name).format.compat(wanted) == Compat("2.12", ms_in_timestamp=False)
