"""`datastore-dumper status`: what is fresh, due, being exported or failing; with --watch again and again."""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import click
from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from datastore_dumper.cli.options import config_option, database_of, output_console, read_config
from datastore_dumper.cli.status_view import QUIET, details, listing, summary, watched
from datastore_dumper.database import Connection, Database, database_errors
from datastore_dumper.deadline import Deadline
from datastore_dumper.due import Debounce
from datastore_dumper.errors import UnavailableError
from datastore_dumper.install import require_installed
from datastore_dumper.logs import configure_logging, mask_text
from datastore_dumper.status import STATES, Overview, TableStatus, overview
from datastore_dumper.terminal import drawn
from datastore_dumper.wiring import debounce_of

_MOST_LINES = 50  # without --all
_QUERY_SECONDS = 60


@click.command()
@config_option
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "everything", is_flag=True, help="List the tables that are fresh or not kept, too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; with --watch one object to a line.")
@click.option("--watch", is_flag=True, help="Look again and again, until Ctrl-C.")
@click.option(
    "--interval", type=click.FloatRange(0.1, 3600), default=1.0, show_default=True, help="Seconds between two looks."
)
def status(
    config_path: Path | None, ids: tuple[str, ...], everything: bool, as_json: bool, watch: bool, interval: float
) -> None:
    """Show how far each table is, or those with these resource ids in detail. Needs no running daemon."""
    config = read_config(config_path)
    configure_logging("console", "error")
    if watch and not as_json and not sys.stdout.isatty():
        raise click.UsageError("--watch needs a terminal, or --json.")
    view = _View(database_of(config), debounce_of(config), ids or None)
    console = output_console()
    with view:
        if watch:
            with suppress(KeyboardInterrupt):  # the way to end it
                _watch(console, view, interval, in_detail=bool(ids), as_json=as_json)
        elif as_json:
            click.echo(_json(view.look(), indent=2))
        else:
            _print(console, view.look(), in_detail=bool(ids), everything=everything)


class _View:
    """Looks, over one connection."""

    def __init__(self, database: Database, debounce: Debounce, ids: tuple[str, ...] | None) -> None:
        self._database = database
        self._debounce = debounce
        self._ids = ids
        self._connection: Connection | None = None
        self.seconds = 0.0
        """That the last look took: with many thousands of tables, no less than that lies between two."""

    def __enter__(self) -> _View:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def look(self) -> Overview:
        """Raises `DumperError`."""
        if self._connection is None or self._connection.closed:
            self._connection = self._database.connect("status")
            require_installed(self._connection)
        started = time.monotonic()
        with database_errors(), Deadline(self._connection, _QUERY_SECONDS):
            found = overview(self._connection, self._debounce, self._ids)
        self.seconds = time.monotonic() - started
        return found

    def rest(self, interval: float) -> None:
        """Between two looks; as long as one took, so that looking is never most of what Postgres does. A signal ends it."""
        # A sleep: the table is of all resources, and nothing tells when one of them has changed.
        time.sleep(max(interval, self.seconds))


def _print(console: Console, found: Overview, *, in_detail: bool, everything: bool) -> None:
    if in_detail:
        console.print(details(found), soft_wrap=not console.is_terminal)
        return
    console.print(summary(found))
    tables = found.in_states(STATES if everything else [state for state in STATES if state not in QUIET])
    if tables:
        console.print(listing(found, tables, width=console.width, most=None if everything else _MOST_LINES))


def _watch(console: Console, view: _View, interval: float, *, in_detail: bool, as_json: bool) -> None:
    if as_json:
        while True:
            click.echo(_json(view.look(), indent=None))
            view.rest(interval)
    with drawn(Live(console=console, screen=True, auto_refresh=False)) as live:
        while True:
            try:
                found = view.look()
            except UnavailableError as error:  # it may come back
                view.close()
                shown: RenderableType = Text(f"{error}\nTrying again every {interval:g} s. Ctrl-C ends this.")
            else:
                note = f"{datetime.now():%H:%M:%S}, every {interval:g} s. Ctrl-C ends this."
                shown = details(found) if in_detail else watched(found, console.width, console.height, note)
            live.update(shown, refresh=True)
            view.rest(interval)


def _json(found: Overview, indent: int | None) -> str:
    report = {
        "now": found.now,
        "daemons": found.daemons,
        "counts": found.counts(),
        "tables": [_report(table) for table in found.tables],
    }
    return json.dumps(report, default=_plain, ensure_ascii=False, indent=indent)


def _report(table: TableStatus) -> dict[str, object]:
    """An error is what a server said, and may quote a connection string."""
    error = None if table.error is None else mask_text(table.error)
    failures = {name: mask_text(reason) for name, reason in table.failures.items()}
    return {**asdict(table), "error": error, "failures": failures}


def _plain(value: object) -> str:
    assert isinstance(value, datetime)
    return value.isoformat()
