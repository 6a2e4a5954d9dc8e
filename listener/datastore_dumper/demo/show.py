"""How the demo looks: headings, steps with their time, progress bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from datastore_dumper.terminal import drawn

_TEXT_WIDTH = 56  # with mark, bar and time within a terminal of 80
_BAR_WIDTHS = 8, 20
_LINE_SECONDS = 5.0  # off a terminal: how often a long step says that it is alive


class _Share(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text("" if task.total is None else f"{task.completed:,.0f} of {task.total:,.0f}", style="cyan")


@dataclass(frozen=True)
class Bar:
    """A step under way: `advance` to so many of `total`; `say` what is going on."""

    advance: Callable[[float], None]
    say: Callable[[str], None]


class Show:
    """Writes to one console. Bars vanish when their step is over, and `done` says what came of it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        # Bars are drawn over and over: not on a console that may be recording.
        self._live = Console(file=console.file, width=console.width) if console.is_terminal else None
        least, most = _BAR_WIDTHS
        self._bar_width = max(least, min(most, console.width - _TEXT_WIDTH - 16))

    def heading(self, text: str) -> None:
        """A new chapter."""
        self._console.print()
        self._console.print(Text(text, style="bold"), soft_wrap=True)

    def done(self, text: str, seconds: float | None = None, *, bar: bool = False) -> None:
        """A step that worked, how long it took, and a full bar for those that had one."""
        taken = "" if seconds is None else f"{seconds:.1f} s"
        if self._live is None:
            self._console.print(Text(f"  ok  {text}{f' ({taken})' if taken else ''}"), soft_wrap=True)
            return
        row = Table.grid(padding=(0, 1, 0, 0))
        row.add_column(width=3, justify="right", no_wrap=True)
        row.add_column(width=_TEXT_WIDTH)
        row.add_column(width=self._bar_width)
        row.add_column(width=7, justify="right", no_wrap=True)
        full = ProgressBar(total=1, completed=1, width=self._bar_width) if bar else ""
        row.add_row("[green]✓[/]", escape(text), full, f"[cyan]{taken}[/]")
        self._console.print(row)

    def failed(self, text: str) -> None:
        """The step that did not work."""
        mark = "  failed " if self._live is None else "  ✗ "
        self._console.print(Text(mark + text, style="bold red"), soft_wrap=True)

    def note(self, text: str) -> None:
        """For those who want to look around."""
        self._console.print(Text("    ").append(text, style="dim" if self._live else ""), soft_wrap=True)

    @contextmanager
    def bar(self, text: str, total: float | None = None) -> Iterator[Bar]:
        """A bar while the block runs; without `total` it only shows that something happens."""
        if self._live is None:
            yield _lines(self._console, text, total)
            return
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(self._bar_width), _Share())
        with drawn(Progress(*columns, console=self._live, transient=True)) as progress:
            task = progress.add_task(text, total=total)
            yield Bar(
                lambda completed: progress.update(task, completed=completed),
                lambda words: progress.update(task, description=words),
            )


def _lines(console: Console, text: str, total: float | None) -> Bar:
    last = time.monotonic()

    def advance(completed: float) -> None:
        nonlocal last
        if total is not None and time.monotonic() - last >= _LINE_SECONDS:
            last = time.monotonic()
            console.print(Text(f"      {text}: {completed:,.0f} of {total:,.0f}"), soft_wrap=True)

    return Bar(advance, lambda words: None)
