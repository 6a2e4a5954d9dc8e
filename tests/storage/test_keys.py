from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datastore_dumper.storage.keys import (
    check_key,
    clean_prefix,
    escape,
    is_object_key,
    new_version,
    object_key,
)

utf8_ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=63).filter(
    lambda text: len(text.encode()) <= 63
)
VERSION = "20261124T014800123456Z-00112233445566778899aabbccddeeff"


def unescape(escaped: str) -> str:
    """URLs escape the same way, with a percent sign."""
    return unquote(escaped.replace("=", "%"), errors="surrogateescape")


@given(utf8_ids)
def test_escaping_is_reversible_and_plain(resource_id: str) -> None:
    escaped = escape(resource_id)
    assert re.fullmatch(r"[A-Za-z0-9_=-]+", escaped)
    assert unescape(escaped) == resource_id


@given(utf8_ids)
def test_every_table_name_makes_a_valid_key(resource_id: str) -> None:
    key = object_key(resource_id, VERSION, "csv.gz")
    assert is_object_key(key)
    assert not is_object_key(f"staging/{key}")
    assert check_key(key) == key
    folder, version, name = key.split("/")
    assert (unescape(folder), version, name) == (resource_id, VERSION, f"{folder}.csv.gz")


def test_escaping_by_example() -> None:
    assert escape("8c2ac8f0-6d0e-4d3c-9c9e-0a1b2c3d4e5f") == "8c2ac8f0-6d0e-4d3c-9c9e-0a1b2c3d4e5f"
    assert escape("..") == "=2E=2E"
    assert escape("a/b=c é") == "a=2Fb=3Dc=20=C3=A9"
    assert unescape(escape("not utf-8: \udcff")) == "not utf-8: \udcff"


@pytest.mark.parametrize(
    ("resource_id", "version", "extension"),
    [("", VERSION, "csv"), ("a", "..", "csv"), ("a", "", "csv"), ("a", VERSION, "../csv"), ("a", VERSION, "")],
)
def test_keys_are_not_made_of_anything(resource_id: str, version: str, extension: str) -> None:
    with pytest.raises(ValueError):
        object_key(resource_id, version, extension)


def test_versions_sort_by_time_and_never_meet() -> None:
    time = datetime(2026, 11, 24, 1, 48, tzinfo=timezone(timedelta(hours=2)))
    times = [time + timedelta(microseconds=step) for step in (0, 1, 999_999, 1_000_000, 86_400_000_000)]
    versions = [new_version(moment) for moment in times]
    assert versions == sorted(versions)
    assert versions[0].startswith("20261123T234800000000Z-")
    assert len({new_version(time) for _ in range(1000)}) == 1000
    with pytest.raises(ValueError, match="time zone"):
        new_version(datetime(2026, 11, 24))


@pytest.mark.parametrize(
    ("prefix", "clean"), [("", ""), ("/", ""), ("a", "a/"), ("/a/b/", "a/b/"), ("Ünï code", "Ünï code/")]
)
def test_prefixes(prefix: str, clean: str) -> None:
    assert clean_prefix(prefix) == clean


@pytest.mark.parametrize("prefix", ["..", "a/../b", "a//b", ".hidden", "a\nb", "x" * 100])
def test_prefixes_that_are_refused(prefix: str) -> None:
    with pytest.raises(ValueError):
        clean_prefix(prefix)


@pytest.mark.parametrize(
    "key",
    [
        "t.csv",
        "t/1",
        "t/1/u.csv",
        "t/1/t",
        "t/1/t.csv/x",
        "t/1.0/t.csv",
        "a b/1/a b.csv",
        "t//t.csv",
        "=/1/=.csv",
        "=4/1/=4.csv",
        "=zz/1/=zz.csv",
        "=2e/1/=2e.csv",
        "/1/.csv",
    ],
)
def test_other_peoples_keys_are_not_ours(key: str) -> None:
    assert not is_object_key(key)
