"""What a conditional or ranged request gets of a file: RFC 9110, sections 13 and 14. Knows headers, not files or CKAN.

Werkzeug's `make_conditional` is not used: it lets a range win over If-None-Match, and refuses with 416 what the RFC
says to ignore (several ranges, other units) or to clip (a suffix longer than the file).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

_ENTITY_TAG = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
# No file is longer than 19 digits can say; int() itself refuses thousands of them.
_ONE_RANGE = re.compile(r"\s*bytes\s*=\s*([0-9]{0,19})\s*-\s*([0-9]{0,19})\s*", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class Verdict:
    """The status to answer with, and the bytes of the file that go with it: none unless it is 200 or 206."""

    status: int
    start: int = 0
    stop: int = 0


def judge(method: str, headers: Mapping[str, str], *, etag: str, modified: datetime, length: int) -> Verdict:
    """Weigh the request's headers in the order of RFC 9110, 13.2.2.

    `etag` is the file's strong tag without quotes, `modified` is aware, `length` is in bytes. `headers` finds names in
    whatever case. Ranges count for GET alone (14.2).
    """
    modified = modified.astimezone(timezone.utc).replace(microsecond=0)  # as Last-Modified says it
    if (wanted := headers.get("If-Match")) is not None:
        if not _matches(wanted, etag, weak_too=False):
            return Verdict(412)
    elif (since := _date(headers.get("If-Unmodified-Since"))) and modified > since:
        return Verdict(412)
    if (known := headers.get("If-None-Match")) is not None:
        if _matches(known, etag, weak_too=True):
            return Verdict(304)
    elif (since := _date(headers.get("If-Modified-Since"))) and modified <= since:
        return Verdict(304)
    if method != "GET" or not _range_is_of_this_file(headers.get("If-Range"), etag):
        return Verdict(200, 0, length)
    return _range(headers.get("Range", ""), length)


def _matches(header: str, etag: str, *, weak_too: bool) -> bool:
    if header.strip() == "*":
        return True
    return any(tag == etag and (weak_too or not weak) for weak, tag in _ENTITY_TAG.findall(header))


def _range_is_of_this_file(if_range: str | None, etag: str) -> bool:
    """A date never vouches for a file: two may be published within its one second (13.1.5, 8.8.2.2)."""
    return if_range is None or if_range.strip() == f'"{etag}"'


def _range(header: str, length: int) -> Verdict:
    asked = _ONE_RANGE.fullmatch(header)
    if asked is None or asked.groups() == ("", "") or length == 0:
        return Verdict(200, 0, length)
    first, last = asked.groups()
    if not first:
        start, stop = max(length - int(last), 0), length
    else:
        start, stop = int(first), min(int(last) + 1, length) if last else length
        if last and int(last) < start:
            return Verdict(200, 0, length)  # not a range at all: ignored (14.1.1)
    return Verdict(206, start, stop) if start < stop else Verdict(416)


def _date(header: str | None) -> datetime | None:
    """None if there is no date or it cannot be read: such a header is ignored (13.1.3, 13.1.4)."""
    if header is None:
        return None
    try:
        date = parsedate_to_datetime(header)
    except (TypeError, ValueError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=timezone.utc)
