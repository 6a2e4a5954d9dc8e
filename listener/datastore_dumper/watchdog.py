"""Gives way: cancels our COPY of a table as soon as somebody has waited for the table for longer than a moment.

As autovacuum does when it is in the way. The segment that was cancelled is tried again (`segments`). Every daemon looks
after the COPYs of all of them, also when it exports nothing itself: one that is frozen cannot give way.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from datastore_dumper.database import Connection, Database
from datastore_dumper.deadline import Deadline
from datastore_dumper.lifecycle import keep_connected
from datastore_dumper.logs import get_logger
from datastore_dumper.monitor import metrics
from datastore_dumper.sqlfiles import query

log = get_logger(__name__)

GRACE_SECONDS = 0.2
"""Most segments are over by then, and it is far from anybody's lock timeout (xloader's is 15 s)."""

PATIENCE_SECONDS = 3
"""A COPY that was cancelled long ago and still holds its lock is of a process that reads no more."""

_LOOK_SECONDS = 0.1
# While nobody has a lease there is no COPY to cancel but that of a `verify`, which watches for itself unless it is frozen; then
# Postgres ends its session after 10 s (`export`).
_IDLE_SECONDS = 30
_QUERY_SECONDS = 30


def watch(database: Database, stop: threading.Event, is_exporting: Callable[[], bool]) -> None:
    """Look for waiters until `stop` is set, more often as long as anything is being exported. Reconnects by itself."""

    def work(connection: Connection) -> None:
        looked = float("-inf")
        waiting: dict[str, Waiter] = {}
        while not stop.wait(_LOOK_SECONDS):
            if waiting or is_exporting() or time.monotonic() - looked >= _IDLE_SECONDS:
                waiting = _note(give_way(connection), waiting)
                looked = time.monotonic()

    keep_connected(database, "watchdog", stop, work)


@dataclass(frozen=True)
class Waiter:
    """Somebody who waits for a table that we read."""

    table: str
    waited_seconds: float


def give_way(connection: Connection) -> dict[str, Waiter]:
    """Cancel our COPYs that somebody waits for. Returns for whom, by what tells them apart."""
    with Deadline(connection, _QUERY_SECONDS):
        cancelled = connection.execute(
            query("give_way"), {"grace_seconds": GRACE_SECONDS, "patience_seconds": PATIENCE_SECONDS}
        ).fetchall()
    return {key: Waiter(table, seconds) for table, key, seconds, _ in cancelled}


def _note(found: dict[str, Waiter], before: dict[str, Waiter]) -> dict[str, Waiter]:
    """Count the waiters that were not there at the look before, and for how much longer the others have waited since."""
    for key, waiter in found.items():
        if key not in before:
            metrics.GAVE_WAY.inc()
            log.info("gave_way", table=waiter.table, waited_seconds=round(waiter.waited_seconds, 3))
        counted = before[key].waited_seconds if key in before else 0.0
        metrics.WRITERS_WAITED.inc(max(waiter.waited_seconds - counted, 0.0))
    return found


def cancel_segments(connection: Connection, relid: int) -> None:
    """Cancel our COPYs of one table."""
    connection.execute(query("cancel_segments"), {"relid": relid})
