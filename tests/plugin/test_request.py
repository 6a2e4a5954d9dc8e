"""Which arguments of a dump URL a ready file answers."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckanext.datastore_dumper.request import FORMATS, NARROWING, DumpRequest, NotAnswerable, parse

NAME = "d2f1e7c0-2a3c-4f6e-9d0f-0a6ab4a5a3c1"

harmless = st.fixed_dictionaries(
    {},
    optional={
        "format": st.sampled_from(["", *FORMATS]),
        "bom": st.text(),
        "offset": st.sampled_from(["", "0"]),
        "sort": st.sampled_from(["", "_id", "_id asc"]),
        "latest": st.sampled_from(["", "false", "no", "0"]),
        "utm_source": st.text(),
    },
)


@pytest.mark.parametrize(
    ("args", "format"),
    [
        ([], "csv"),
        ([("format", "")], "csv"),
        ([("bom", "True")], "csv-bom"),
        ([("bom", "YES"), ("format", "tsv")], "tsv-bom"),
        ([("bom", " true ")], "csv"),
        ([("bom", "on")], "csv"),
        ([("bom", "")], "csv"),
        ([("format", "json")], "json"),
        ([("sort", "_id asc"), ("offset", "0"), ("latest", "false")], "csv"),
        ([("utm_source", "a"), ("utm_source", "b"), ("filter", "{}")], "csv"),
    ],
)
def test_a_whole_table_is_answerable(args: list[tuple[str, str]], format: str) -> None:
    request = parse(NAME, args)
    assert isinstance(request, DumpRequest)
    assert request.format == format
    assert request.name == NAME


EXTRA = ("csv.gz", "parquet")


def test_an_extra_format_is_answerable_where_the_site_has_it() -> None:
    assert parse(NAME, [("format", "csv.gz"), ("bom", "false")], EXTRA) == DumpRequest(NAME, "csv.gz", extra=True)
    assert parse(NAME, [("format", "csv.gz")], ["parquet"]) == NotAnswerable("csv.gz", False, ("format",))
    assert parse(NAME, [("format", "csv")], EXTRA) == DumpRequest(NAME, "csv", extra=False)


@pytest.mark.parametrize(
    ("args", "arguments"),
    [
        ([("limit", "5"), ("filters", "{}")], ("filters", "limit")),
        ([("latest", "true")], ("latest",)),
        ([("bom", "true")], ("bom",)),
        ([("offset", "1"), ("sort", "a desc")], ("offset", "sort")),
        ([("format", "csv")], ("format",)),
    ],
)
def test_what_an_extra_format_cannot_heed_is_named(args: list[tuple[str, str]], arguments: tuple[str, ...]) -> None:
    """Of a repeated argument the first counts, as for CKAN."""
    assert parse(NAME, [("format", "csv.gz"), *args], EXTRA) == NotAnswerable("csv.gz", True, arguments)


@pytest.mark.parametrize(
    "args",
    [
        [("format", "CSV")],
        [("format", "csv-bom")],
        [("format", "parquet")],
        [("offset", "1")],
        [("offset", "+0")],
        [("offset", "many")],
        [("sort", "_id desc")],
        [("sort", "name")],
        [("latest", "true")],
        [("latest", "1")],
        [("format", "csv"), ("format", "json")],
        [("bom", "true"), ("bom", "false")],
        [("offset", "0"), ("offset", "10")],
        [("latest", ""), ("latest", "true")],
        [("limit", "")],
    ],
)
def test_all_else_is_left_to_ckan(args: list[tuple[str, str]]) -> None:
    assert isinstance(parse(NAME, args), NotAnswerable)


@given(harmless, st.sampled_from(sorted(NARROWING)), st.text(), st.randoms(use_true_random=False))
def test_an_argument_that_narrows_is_never_answerable(
    args: dict[str, str], key: str, value: str, random: Random
) -> None:
    """Whatever its value, and wherever it stands."""
    pairs = [*args.items(), (key, value)]
    random.shuffle(pairs)
    assert isinstance(parse(NAME, pairs), NotAnswerable)


@given(st.text(), harmless)
def test_the_format_looked_up_is_one_of_ours(name: str, args: dict[str, str]) -> None:
    request = parse(name, args.items())
    assert isinstance(request, DumpRequest)
    assert request.format in {*FORMATS, *(f"{extension}-bom" for extension in FORMATS)}
    assert request.format.endswith("-bom") == (args.get("bom", "").lower() in ("true", "yes", "t", "y", "1"))


keys = st.text() | st.sampled_from(["format", "bom", "offset", "sort", "latest", *sorted(NARROWING)])
values = st.text() | st.sampled_from([*FORMATS, *EXTRA, "true", "0", "_id"])


@given(st.lists(st.tuples(keys, values)))
def test_a_format_is_answered_by_ckan_or_by_nobody(args: list[tuple[str, str]]) -> None:
    """Only what CKAN would refuse as unknown (it takes the first `format`) is for us alone, whatever else is asked."""
    request = parse(NAME, args, EXTRA)
    first = next((value for key, value in args if key == "format"), "")
    assert request.extra == (first in EXTRA)
    if isinstance(request, DumpRequest):
        assert request.format.removesuffix("-bom") == (first or "csv")
    else:
        assert request.arguments
