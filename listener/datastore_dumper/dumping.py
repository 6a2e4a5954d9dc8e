"""Exports the tables that somebody names, now and in this process, under leases like those of a daemon.

With a daemon or without one: whoever has the lease exports, and the other waits for it. The request that is made first is
durable, so what this process cannot do is still wanted, and makes the export a full one if that is asked for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime

from datastore_dumper.daemon import Foreground
from datastore_dumper.database import Connection
from datastore_dumper.sqlfiles import query

_PAUSE_SECONDS = 0.5  # between tries to get a lease that somebody else has
_LOOK_SECONDS = 0.25  # between looks at how far the exports are


@dataclass(frozen=True)
class Wanted:
    """A table to export."""

    relid: int
    resource_id: str


@dataclass(frozen=True)
class Progress:
    """How far an export is. Rows are counted once for each format; None: not known."""

    rows: int
    expected_rows: int | None
    owner: str | None
    """Who makes it, if that is somebody else."""


@dataclass(frozen=True)
class Outcome:
    """What came of it."""

    table: Wanted
    error: str | None
    """None: it is published."""


def dump_tables(
    hands: Foreground,
    tables: Sequence[Wanted],
    *,
    full: bool,
    concurrency: int,
    tell: Callable[[Wanted, Progress], None],
    done: Callable[[Outcome], None],
) -> list[Outcome]:
    """Export the tables, `concurrency` at once. What did not come about because of `hands.stop` is not in the answer, and
    nobody is asked for it any more."""
    connection = hands.connection
    requests = {table: _request(connection, table, full=full) for table in tables}
    gone = {table: threading.Event() for table in tables}
    served = {table: threading.Event() for table in tables}
    outcomes: list[Outcome] = []
    with ThreadPoolExecutor(concurrency, thread_name_prefix="export") as pool:
        running: set[Future[Outcome | None]] = {
            pool.submit(_dump, hands, table, gone[table], served[table]) for table in tables
        }
        try:
            while running:
                finished, running = wait(running, _LOOK_SECONDS, FIRST_COMPLETED)
                for outcome in [each.result() for each in finished]:
                    if outcome is not None:
                        outcomes.append(outcome)
                        done(outcome)
                left = [table for table in tables if table not in {each.table for each in outcomes}]
                _tell(hands, left, gone, served, tell)
        finally:
            for event in gone.values():
                event.set()  # an error of ours must not leave a thread that waits for a lease
    if hands.stop.is_set():
        for table in set(tables) - {outcome.table for outcome in outcomes}:
            connection.execute(
                query("withdraw_request"), {"resource_id": table.resource_id, "requested_at": requests[table]}
            )
    return outcomes


def _request(connection: Connection, table: Wanted, *, full: bool) -> datetime | None:
    row = connection.execute(query("request"), {"resource_id": table.resource_id, "is_full": full}).fetchone()
    assert row is not None, "one row"
    requested_at: datetime | None = row[0]
    return requested_at


def _dump(hands: Foreground, table: Wanted, gone: threading.Event, served: threading.Event) -> Outcome | None:
    """Until it is published or fails, here or (`served`) by a daemon. None: we were told to stop."""
    worker = hands.worker()
    while not hands.stop.is_set():
        if worker.dump(table.relid):
            return Outcome(table, None)
        if worker.error is not None:
            return Outcome(table, worker.error)
        if served.is_set():
            return Outcome(table, None)
        if gone.wait(_PAUSE_SECONDS):
            return Outcome(table, f"Table {table.resource_id} is gone")
    return None


def _tell(
    hands: Foreground,
    tables: Sequence[Wanted],
    gone: dict[Wanted, threading.Event],
    served: dict[Wanted, threading.Event],
    tell: Callable[[Wanted, Progress], None],
) -> None:
    """How far the exports are: ours as we know it, those of others as they write it down."""
    rows = hands.connection.execute(query("export_progress"), {"relids": [table.relid for table in tables]}).fetchall()
    found = {relid: Progress(exported or 0, expected, owner) for relid, owner, exported, expected, _ in rows}
    requested = {relid for relid, *_, is_requested in rows if is_requested}
    ours = {lease.relid: Progress(lease.exported_rows, lease.expected_rows, None) for lease in hands.leases.held()}
    for table in tables:
        if table.relid not in found:
            gone[table].set()
        elif table.relid not in requested:
            served[table].set()
        elif table.relid in ours:
            tell(table, ours[table.relid])
        elif found[table.relid].owner is not None:
            tell(table, found[table.relid])
