"""What `datastore-dumper status` draws: counts, a table of what is not fresh, bars for what is being exported."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from datastore_dumper.cli.show import shown_seconds, shown_span, shown_text, shown_time
from datastore_dumper.status import STATES, Overview, State, TableStatus
from datastore_dumper.words import counted, printable, shown_bytes

_STYLES: dict[State, str] = {
    "exporting": "cyan",
    "failing": "bold red",
    "due": "yellow",
    "waiting": "yellow",
    "stale": "magenta",
    "fresh": "green",
    "unkept": "dim",
}
QUIET: tuple[State, ...] = ("fresh", "unkept")
"""Nothing is to be done about these."""
_BAR_WIDTH = 12
_WIDE = 118  # columns of a terminal from which rows and bytes have room beside what happens
_ID_WIDTH = 36  # of a UUID
_SHORT_ID_WIDTH = 14  # enough to tell UUIDs apart
_NARROW = 100
_GAP = 2  # between columns
_LEAST_WIDTH = 10


def summary(overview: Overview) -> Text:
    """How many tables are in each state, and whether nobody is there to do anything about it."""
    text = Text(counted(len(overview.tables), "table"), style="bold")
    for state, count in overview.counts().items():
        if count:
            text.append(f"   {count:,} {state}", style=f"not bold {_STYLES[state]}")
    if overview.daemons == 0:
        text.append("   no daemon is connected", style=_STYLES["failing"])
    return text


def listing(
    overview: Overview, tables: Sequence[TableStatus], *, width: int, most: int | None = None, one_line: bool = False
) -> RenderableType:
    """A line for each of the tables, `most` of them at the most; narrow terminals get fewer columns. Long errors take more
    than a line unless that is forbidden."""
    assert overview.now is not None or not tables
    shown = tables if most is None else tables[:most]
    sizes = width >= _WIDE
    table = Table(box=None, pad_edge=False, header_style="dim", expand=False)
    columns = [("RESOURCE", _ID_WIDTH if width >= _NARROW else _SHORT_ID_WIDTH), ("STATE", 9)]
    columns += [("ROWS", 13), ("BYTES", 10)] if sizes else []
    columns += [("FILES OF", 10)]
    for name, column_width in columns:
        table.add_column(
            name,
            width=column_width,
            justify="left" if name in ("RESOURCE", "STATE") else "right",
            no_wrap=True,
            overflow="ellipsis",
        )
    room = width - sum(column_width + _GAP for _, column_width in columns)
    table.add_column(
        "", max_width=max(room, _LEAST_WIDTH), no_wrap=one_line, overflow="ellipsis" if one_line else "fold"
    )
    for each in shown:
        assert overview.now is not None
        rows = max((file.rows for file in each.files), default=each.estimated_rows)
        size = shown_bytes(sum(file.bytes for file in each.files)) if each.files else "-"
        table.add_row(
            Text(printable(each.resource_id)),
            Text(each.state, style=_STYLES[each.state]),
            *([f"{rows:,}", size] if sizes else []),
            _age(each.published_at, overview.now),
            _what(each, overview.now),
        )
    more = len(tables) - len(shown)
    return Group(table, Text(f"and {more:,} more", style="dim")) if more else table


def _age(time: datetime | None, now: datetime) -> str:
    return "-" if time is None else f"{shown_span(now - time)} ago"


def _what(table: TableStatus, now: datetime) -> RenderableType:
    """What happens with the table, or what keeps it."""
    if table.export is not None:
        return progress(table, now)
    if table.state == "unkept":
        return Text(f"no files are kept: {shown_text(table.choice_detail or '')}", style="dim")
    if table.state == "failing":
        again = "" if table.due_at is None else f" (again in {shown_span(table.due_at - now)})"
        times = "once" if table.attempts == 1 else f"{table.attempts} times"
        return Text(f"failed {times}{again}: {shown_text(table.error or '')}", style="red")
    if table.state == "waiting" and table.due_at is not None:
        return Text(f"due in {shown_span(table.due_at - now)}")
    if table.requested_at is not None:
        return Text(f"asked for {shown_span(now - table.requested_at)} ago")
    if table.state == "due" and table.pending_since is not None:
        return Text(f"changed {shown_span(now - table.pending_since)} ago")
    if table.state == "stale":
        return Text("the daemon will notice")
    failed = ", ".join(table.failures)
    return Text(f"not as {failed}" if failed else "", style="dim")


def progress(table: TableStatus, now: datetime) -> RenderableType:
    """A bar with rate and time left. The rows of all formats together: each format reads them anew."""
    export = table.export
    assert export is not None
    seconds = max((now - export.since).total_seconds(), 0.001)
    rate = export.rows / seconds
    if not export.expected_rows:
        return Text(f"{export.rows:,} rows, {rate:,.0f}/s" if export.rows else f"for {shown_span(now - export.since)}")
    done = min(export.rows, export.expected_rows)
    text = Text(f"{100 * done // export.expected_rows} %, {rate:,.0f}/s")
    if rate:
        text.append(f", {shown_seconds((export.expected_rows - done) / rate)} left")
    line = Table.grid(padding=(0, 1, 0, 0))
    line.add_column()
    line.add_column(no_wrap=True, overflow="ellipsis")
    line.add_row(ProgressBar(total=export.expected_rows, completed=done, width=_BAR_WIDTH), text)
    return line


def details(overview: Overview) -> RenderableType:
    """Everything of the tables that were named."""
    assert overview.now is not None
    parts: list[RenderableType] = []
    for each in overview.tables:
        title = Text(printable(each.resource_id), style="bold")
        title.append(f"   {each.state}", style=f"not bold {_STYLES[each.state]}")
        parts += [title, *_facts(each, overview.now)]
        table = Table(box=None, pad_edge=False, header_style="dim")
        for name in ("  FORMAT", "ROWS", "BYTES", "SHOWS THE TABLE AT", "TOOK", "COMPAT", "FRESH"):
            table.add_column(name, justify="right" if name in ("ROWS", "BYTES", "TOOK") else "left", no_wrap=True)
        for file in each.files:
            table.add_row(
                f"  {file.format}",
                f"{file.rows:,}",
                shown_bytes(file.bytes),
                shown_time(file.generated_at),
                f"{file.seconds:.1f} s",
                file.compat,
                Text("yes" if file.fresh else "no", style="green" if file.fresh else "yellow"),
            )
        parts += [table] if each.files else [Text("  no files")]
        parts += [Text(f"  not as {name}: {shown_text(error)}") for name, error in each.failures.items()]
    return Group(*parts)


def _facts(table: TableStatus, now: datetime) -> list[RenderableType]:
    facts: list[RenderableType] = []
    if table.export is not None:
        facts += [Text(f"  exported by {shown_text(table.export.owner)}"), progress(table, now)]
    if table.choice_detail is not None:
        facts.append(Text(f"  no files are kept: {shown_text(table.choice_detail)}"))
    if table.asked_at is not None and table.choice in ("on_demand", "not_asked"):
        facts.append(Text(f"  last asked for by a visitor at {shown_time(table.asked_at)}, to the hour"))
    if table.pending_since is not None:
        due = "" if table.due_at is None else f", due {shown_time(table.due_at)}"
        facts.append(
            Text(f"  changed since {shown_time(table.pending_since)} ({counted(table.changes, 'change row')}){due}")
        )
    if table.requested_at is not None:
        facts.append(Text(f"  asked for at {shown_time(table.requested_at)}"))
    if table.error is not None:
        facts.append(Text(f"  last error ({table.attempts} in a row): {shown_text(table.error)}", style="red"))
    return facts


def watched(overview: Overview, width: int, height: int, note: str) -> RenderableType:
    """What `--watch` shows: what is not fresh, what was published last, and what is not kept, as much as there is room for."""
    busy = overview.in_states([state for state in STATES if state not in QUIET])
    fresh = sorted(
        (table for table in overview.tables if table.state == "fresh" and table.published_at is not None),
        key=lambda table: table.published_at or datetime.min,
        reverse=True,
    )
    room = max(height - 5, 3)
    parts: list[RenderableType] = [summary(overview), Text("")]
    tables = [*busy, *fresh, *overview.in_states(["unkept"])]
    if tables:
        parts.append(listing(overview, tables, width=width, most=room, one_line=True))
    return Group(*parts, Text(note, style="dim"))
