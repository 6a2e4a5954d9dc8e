"""Gives way: cancels our COPY of a table as soon as somebody has waited for the table for longer than a moment.

As autovacuum does when it is in the way. The segment that was cancelled is tried again (`segments`). Every daemon looks
after the COPYs of all of them, also when it exports nothing itself: one that is frozen cannot give way.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from datastore_dumper.database import Connection, Database
from datastore_dumper.deadline import Deadline
from datastore_dumper.lifecycle import keep_connected
from datastore_dumper.logs import get_logger
from datastore_dumper.sqlfiles import query

log = get_logger(__name__)

GRACE_SECONDS = 0.2
"""Most segments are over by then, and it is far from anybody's lock timeout (xloader's is 15 s)."""

PATIENCE_SECONDS = 3
"""A COPY that was cancelled long ago and still holds its lock is of a process that reads no more."""

_LOOK_SECONDS = 0.1
_IDLE_SECONDS = 2
_QUERY_SECONDS = 30


def watch(database: Database, stop: threading.Event, is_exporting: Callable[[], bool]) -> None:
    """Look for waiters until `stop` is set, more often as long as anything is being exported. Reconnects by itself."""

    def work(connection: Connection) -> None:
        looked = float("-inf")
        while not stop.wait(_LOOK_SECONDS):
            if is_exporting() or time.monotonic() - looked >= _IDLE_SECONDS:
                give_way(connection)
                looked = time.monotonic()

    keep_connected(database, "watchdog", stop, work)


def give_way(connection: Connection) -> int:
    """Cancel our COPYs that somebody waits for; how many."""
    with Deadline(connection, _QUERY_SECONDS):
        cancelled = connection.execute(
            query("give_way"), {"grace_seconds": GRACE_SECONDS, "patience_seconds": PATIENCE_SECONDS}
        ).fetchall()
    for table, _ in cancelled:
        log.info("gave_way", table=table)
    return len(cancelled)


def cancel_segments(connection: Connection, relid: int) -> None:
    """Cancel our COPYs of one table."""
    connection.execute(query("cancel_segments"), {"relid": relid})
