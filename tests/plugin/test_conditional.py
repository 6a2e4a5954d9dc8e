"""Preconditions and ranges as RFC 9110 has them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckanext.datastore_dumper.conditional import Verdict, judge

ETAG = "9a0364b9e99bb480dd25e1f0284c8555-7"
MODIFIED = datetime(2026, 11, 23, 10, 0, 0, 700_000, tzinfo=timezone.utc)
SAME_SECOND = format_datetime(MODIFIED.replace(microsecond=0), usegmt=True)
BEFORE = format_datetime(MODIFIED - timedelta(hours=1), usegmt=True)
LENGTH = 1000
WHOLE = Verdict(200, 0, LENGTH)


def get(method: str = "GET", **headers: str) -> Verdict:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return judge(method, named, etag=ETAG, modified=MODIFIED, length=LENGTH)


@pytest.mark.parametrize(
    ("headers", "verdict"),
    [
        ({}, WHOLE),
        ({"If_None_Match": f'"{ETAG}"'}, Verdict(304)),
        ({"If_None_Match": f'"other", W/"{ETAG}"'}, Verdict(304)),
        ({"If_None_Match": "*"}, Verdict(304)),
        ({"If_None_Match": '"other"'}, WHOLE),
        ({"If_None_Match": ETAG}, WHOLE),
        ({"If_None_Match": '"other"', "If_Modified_Since": SAME_SECOND}, WHOLE),
        ({"If_Modified_Since": SAME_SECOND}, Verdict(304)),
        ({"If_Modified_Since": BEFORE}, WHOLE),
        ({"If_Modified_Since": "yesterday"}, WHOLE),
        ({"If_Modified_Since": "Mon, 23 Nov 99999 10:00:00 GMT"}, WHOLE),
        ({"If_Match": f'"{ETAG}"'}, WHOLE),
        ({"If_Match": "*"}, WHOLE),
        ({"If_Match": f'W/"{ETAG}"'}, Verdict(412)),
        ({"If_Match": '"other"'}, Verdict(412)),
        ({"If_Match": f'"{ETAG}"', "If_Unmodified_Since": BEFORE}, WHOLE),
        ({"If_Unmodified_Since": BEFORE}, Verdict(412)),
        ({"If_Unmodified_Since": SAME_SECOND}, WHOLE),
        ({"If_Match": '"other"', "If_None_Match": f'"{ETAG}"'}, Verdict(412)),
    ],
)
def test_preconditions(headers: dict[str, str], verdict: Verdict) -> None:
    assert get(**headers) == verdict
    assert get("HEAD", **headers) == verdict


@pytest.mark.parametrize(
    ("header", "verdict"),
    [
        ("bytes=0-0", Verdict(206, 0, 1)),
        ("bytes=0-", Verdict(206, 0, 1000)),
        ("bytes=990-2000", Verdict(206, 990, 1000)),
        ("Bytes = 10 - 19", Verdict(206, 10, 20)),
        ("bytes=-10", Verdict(206, 990, 1000)),
        ("bytes=-2000", Verdict(206, 0, 1000)),
        ("bytes=1000-", Verdict(416)),
        ("bytes=-0", Verdict(416)),
        # Invalid, of another unit, or several: ignored.
        ("bytes=20-10", WHOLE),
        ("bytes=-", WHOLE),
        ("bytes=a-b", WHOLE),
        ("rows=0-9", WHOLE),
        ("bytes=0-1,5-6", WHOLE),
        ("bytes=0-" + "9" * 5000, WHOLE),
    ],
)
def test_ranges(header: str, verdict: Verdict) -> None:
    assert get(Range=header) == verdict
    assert get("HEAD", Range=header) == WHOLE


@pytest.mark.parametrize(
    ("if_range", "status"),
    [(f'"{ETAG}"', 206), ('"other"', 200), (f'W/"{ETAG}"', 200), (SAME_SECOND, 200), ("", 200)],
)
def test_a_range_of_another_file_is_not_given(if_range: str, status: int) -> None:
    assert get(Range="bytes=5-9", If_Range=if_range).status == status


def test_a_known_file_is_not_sent_in_parts_either() -> None:
    assert get(Range="bytes=5-9", If_None_Match=f'"{ETAG}"') == Verdict(304)


def test_an_empty_file_has_no_ranges() -> None:
    for header in ("bytes=0-", "bytes=-5"):
        assert judge("GET", {"Range": header}, etag=ETAG, modified=MODIFIED, length=0) == Verdict(200, 0, 0)


@given(st.text(), st.integers(0, 10**15))
def test_what_is_sent_is_inside_the_file(header: str, length: int) -> None:
    for value in (header, f"bytes={header}"):
        verdict = judge("GET", {"Range": value}, etag=ETAG, modified=MODIFIED, length=length)
        assert 0 <= verdict.start <= verdict.stop <= length


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(1, 10**6))
def test_a_range_selects_what_slicing_would(first: int, last: int, length: int) -> None:
    content = range(length)
    verdict = judge("GET", {"Range": f"bytes={first}-{last}"}, etag=ETAG, modified=MODIFIED, length=length)
    sent = content[verdict.start : verdict.stop]
    if last < first:
        assert sent == content
    elif first >= length:
        assert verdict == Verdict(416)
    else:
        assert (verdict.status, sent) == (206, content[first : last + 1])


@given(st.dictionaries(st.sampled_from(["If-Match", "If-None-Match", "If-Modified-Since", "If-Range"]), st.text()))
def test_no_header_breaks_it(headers: dict[str, str]) -> None:
    assert judge("GET", headers, etag=ETAG, modified=MODIFIED, length=LENGTH).status in (200, 304, 412)
