"""How commands show numbers, times and tables, the same in all of them."""

from __future__ import annotations

from datetime import datetime, timedelta

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_STEP = 1024


def shown_bytes(count: float) -> str:
    """`3.4 MiB`; whole numbers of bytes."""
    for unit in _UNITS[:-1]:
        if count < _STEP:
            return f"{count:.0f} {unit}" if unit == _UNITS[0] else f"{count:.1f} {unit}"
        count /= _STEP
    return f"{count:.1f} {_UNITS[-1]}"


def shown_seconds(seconds: float) -> str:
    """`8 s`, `3 min`, `2.5 h`, `4 d`."""
    for limit, divisor, unit in ((120, 1, "s"), (7200, 60, "min"), (48 * 3600, 3600, "h")):
        if seconds < limit:
            return f"{seconds / divisor:.0f} {unit}" if unit != "h" else f"{seconds / divisor:.1f} h"
    return f"{seconds / 86400:.0f} d"


def shown_span(span: timedelta) -> str:
    return shown_seconds(max(span.total_seconds(), 0.0))


def shown_time(time: datetime | None) -> str:
    """In the local time zone, to the second."""
    return "-" if time is None else f"{time.astimezone():%Y-%m-%d %H:%M:%S}"
