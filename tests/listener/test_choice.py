"""Which tables get files: the decision itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datastore_dumper.choice import Choice, Facts, FormatRule, Selection, Size, choose

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
ids = st.text("ab-.[]*\n", max_size=6)
patterns = st.text("ab-?*.[", min_size=1, max_size=5)
sizes = st.builds(Size, st.none() | st.integers(0, 50), st.none() | st.integers(0, 50))
times = st.none() | st.integers(-60, 0).map(lambda days: NOW + timedelta(days=days))
selections = st.builds(
    Selection,
    formats=st.just(("csv", "csv-bom")),
    include=st.lists(patterns, min_size=1, max_size=3).map(tuple),
    exclude=st.lists(patterns, max_size=2).map(tuple),
    min_rows=st.integers(0, 40),
    min_bytes=st.integers(0, 40),
    rules=st.lists(st.builds(FormatRule, patterns, st.just(("tsv",))), max_size=2).map(tuple),
    on_demand=st.booleans(),
    unasked_days=st.integers(1, 50),
)
facts = st.builds(Facts, resource_id=ids, has_files=st.booleans(), asked_at=times, size=sizes)

EVERYTHING = Selection(formats=("csv",))


def a_table(name: str = "t", **known: object) -> Facts:
    return Facts(name, has_files=False, asked_at=None, **known)


@given(selections, facts)
def test_formats_and_reasons_exclude_each_other(selection: Selection, known: Facts) -> None:
    choice = choose(selection, known, NOW)
    assert choice.is_kept == bool(choice.formats) == (choice.detail is None)
    assert set(choice.formats) <= set(selection.all_formats)
    assert (choice.verdict == "on_demand") <= selection.on_demand
    assert (choice.verdict == "always") <= (not selection.on_demand)


@given(selections, facts)
def test_deciding_again_decides_the_same(selection: Selection, known: Facts) -> None:
    """What became of the decision is no reason for another one: files do not come and go while nothing happens."""
    choice = choose(selection, known, NOW)
    settled = replace(known, has_files=choice.is_kept)
    assert choose(selection, settled, NOW) == choice


@given(selections, facts, st.integers(0, 50))
def test_a_table_that_grows_loses_no_files(selection: Selection, known: Facts, more: int) -> None:
    grown = replace(
        known, size=Size(*(size if size is None else size + more for size in (known.size.rows, known.size.bytes)))
    )
    if choose(selection, known, NOW).is_kept:
        assert choose(selection, grown, NOW).is_kept


@given(st.lists(patterns, min_size=1, max_size=3), ids)
def test_patterns_fit_whole_ids_and_know_two_signs(given_patterns: list[str], name: str) -> None:
    selection = replace(EVERYTHING, include=tuple(given_patterns))
    expected = any(fnmatchcase(name, pattern.replace("[", "[[]")) for pattern in given_patterns)
    assert choose(selection, a_table(name), NOW).is_kept == expected


def test_exclusion_has_the_last_word_and_says_which() -> None:
    selection = replace(EVERYTHING, include=("s-*",), exclude=("*-old", "s-?"))
    assert choose(selection, a_table("s-new"), NOW) == Choice("always", None, ("csv",))
    assert choose(selection, a_table("s-1"), NOW) == Choice("excluded", "tables.exclude has s-?")
    assert choose(selection, a_table("x"), NOW) == Choice("excluded", "no pattern in tables.include fits")


def test_the_first_rule_that_fits_names_the_formats() -> None:
    selection = replace(EVERYTHING, rules=(FormatRule("a*", ("tsv", "json")), FormatRule("*", ("xml",))))
    assert choose(selection, a_table("ab"), NOW).formats == ("tsv", "json")
    assert choose(selection, a_table("b"), NOW).formats == ("xml",)
    assert selection.all_formats == ("csv", "tsv", "json", "xml")


@pytest.mark.parametrize(
    ("size", "has_files", "verdict"),
    [
        (Size(99), False, "too_small"),
        (Size(100), False, "always"),
        (Size(50), True, "always"),
        (Size(49), True, "too_small"),
        (Size(None), False, "always"),
        (Size(None, 999), False, "too_small"),
        (Size(None, 500), True, "always"),
        (Size(0, 1000), True, "too_small"),
    ],
)
def test_sizes(size: Size, has_files: bool, verdict: str) -> None:
    selection = replace(EVERYTHING, min_rows=100, min_bytes=1000)
    assert choose(selection, Facts("t", has_files, None, size), NOW).verdict == verdict


@pytest.mark.parametrize(
    ("days", "verdict"), [(None, "not_asked"), (0, "on_demand"), (29, "on_demand"), (30, "not_asked")]
)
def test_on_demand(days: int | None, verdict: str) -> None:
    asked_at = None if days is None else NOW - timedelta(days=days)
    choice = choose(replace(EVERYTHING, on_demand=True), Facts("t", False, asked_at), NOW)
    assert choice.verdict == verdict
    assert choice.detail == ({None: "nobody has asked for it yet", 30: "nobody has asked for it in 30 days"}.get(days))
