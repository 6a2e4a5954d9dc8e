"""How commands show numbers, times, progress and what others say, the same in all of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from datastore_dumper.logs import mask_text
from datastore_dumper.terminal import drawn
from datastore_dumper.words import printable, shown_bytes


def shown_text(text: str) -> str:
    """What others have said or named, fit for a line of a terminal: nothing in it moves the cursor, and no secret shows."""
    return mask_text(printable(text))


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


class _Amount(ProgressColumn):
    """`12,000 of 50,000 rows  35,000/s`; bytes in their units."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        if not task.completed:
            return Text("")
        whole = "" if task.total is None else f" of {self._shown(task.total)}"
        unit = "" if self._unit == "bytes" else f" {self._unit}"
        rate = "" if not task.speed else f"  {self._shown(task.speed)}/s"
        return Text(f"{self._shown(task.completed)}{whole}{unit}{rate}", style="cyan")

    def _shown(self, amount: float) -> str:
        return shown_bytes(amount) if self._unit == "bytes" else f"{amount:,.0f}"


@contextmanager
def bars(unit: str) -> Iterator[Progress]:
    """Bars with rate and time left, on a terminal; elsewhere nothing. They vanish at the end. `unit`: rows, bytes, tables."""
    console = Console(stderr=True)
    progress = Progress(
        TextColumn("{task.description}", markup=False),  # a table's name may have brackets in it
        BarColumn(20),
        _Amount(unit),
        TimeRemainingColumn(compact=True),
        console=console,
        transient=True,
        redirect_stdout=sys.stdout.isatty(),
        disable=not console.is_terminal,
    )
    with drawn(progress):
        yield progress
