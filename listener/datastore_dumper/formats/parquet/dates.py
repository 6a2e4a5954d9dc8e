"""Dates and timestamps that Arrow does not parse: before year 1 and after year 9999, as Postgres writes them in ISO style.

Both count in the proleptic Gregorian calendar (PostgreSQL: "History of Units"), Postgres with BC and AD, where year 1 BC
comes before year 1.
"""

from __future__ import annotations

import re
from datetime import date

_ISO = re.compile(
    r"(?P<year>\d{4,})-(?P<month>\d\d)-(?P<day>\d\d)"
    r"(?: (?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)(?:\.(?P<fraction>\d{1,6}))?(?:\+00)?)?(?P<bc> BC)?"
)
_EPOCH = date(1970, 1, 1).toordinal()
_CYCLE_YEARS = 400  # after which the calendar repeats itself
_CYCLE_DAYS = 146_097
_INT64 = range(-(2**63), 2**63)


def days(text: str) -> int:
    """Days since 1970-01-01 of a date. Raises `ValueError` for `infinity` and `-infinity`."""
    return _days(_match(text))


def microseconds(text: str) -> int:
    """Microseconds since 1970-01-01 00:00:00 of a timestamp without time zone or in UTC.

    Raises `ValueError` for `infinity` and `-infinity`, and for the last thirty years of Postgres' range (to 294276 AD),
    which counts from the year 2000.
    """
    found = _match(text)
    seconds = (_days(found) * 24 + int(found["hour"])) * 3600 + int(found["minute"]) * 60 + int(found["second"])
    total = seconds * 1_000_000 + int((found["fraction"] or "").ljust(6, "0"))
    if total not in _INT64:
        raise ValueError(f"{text} is out of the range of 64-bit microseconds since 1970")
    return total


def _match(text: str) -> re.Match[str]:
    found = _ISO.fullmatch(text)
    if found is None:
        raise ValueError(f"{text} is no point in time")
    return found


def _days(found: re.Match[str]) -> int:
    year = 1 - int(found["year"]) if found["bc"] else int(found["year"])
    cycles, year_of_cycle = divmod(year, _CYCLE_YEARS)
    like = date(_CYCLE_YEARS + year_of_cycle, int(found["month"]), int(found["day"]))
    return like.toordinal() + (cycles - 1) * _CYCLE_DAYS - _EPOCH
