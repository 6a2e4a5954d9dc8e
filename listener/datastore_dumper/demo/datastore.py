"""A DataStore as CKAN would have it, on the demo's Postgres: its roles, one table, and what writers do to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from threading import Event

import psycopg

from datastore_dumper.database import Connection
from datastore_dumper.demo.postgres import PrivatePostgres
from datastore_dumper.sqlfiles import query

DATABASE = "datastore_default"
WRITE_ROLE = "ckan_default"
READ_ROLE = "datastore_default"
DAEMON_ROLE = "datastore_dumper"
RESOURCE_ID = "f1164705-2013-4c0d-8b5e-3a9d1c7e60b2"
"""As in sql/queries/demo.sql."""

MIN_ROWS = 100
"""Of the table, for a burst of changes to find its rows."""
_DELETED_ROWS = 50  # of each burst, from the first on; the rows after them are updated
_PRIME = 7919  # strides over the table, so that a burst is not a run of neighbours


@dataclass(frozen=True)
class Burst:
    """Commits in quick succession. `long_pauses` is how often the machine did not keep up, and quiet time went by."""

    commits: int
    seconds: float
    long_pauses: int


def prepare(server: PrivatePostgres) -> None:
    """Create roles and database, and grant what CKAN grants."""
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(query("demo_create_roles"))
        connection.execute(query("demo_create_database"))
    with psycopg.connect(server.dsn(DATABASE), autocommit=True) as connection:
        connection.execute(query("demo_permissions"))


def connect(server: PrivatePostgres, role: str | None = None) -> Connection:
    """A connection in autocommit mode; without a role, the superuser's."""
    return Connection.connect(server.dsn(DATABASE, role), autocommit=True)


def create_and_load(writer: Connection, batches: Iterable[tuple[int, bytes]], progress: Callable[[float], None]) -> int:
    """Create the table and fill it, in one transaction. Returns how many rows it has."""
    with writer.transaction():
        writer.execute(query("demo_create_table"))
        return _copy(writer, batches, progress)


def reload(writer: Connection, batches: Iterable[tuple[int, bytes]], progress: Callable[[float], None]) -> int:
    """TRUNCATE and COPY in one transaction, as xloader does. Returns how many rows the table has."""
    with writer.transaction():
        writer.execute(query("demo_truncate"))
        return _copy(writer, batches, progress)


def _copy(writer: Connection, batches: Iterable[tuple[int, bytes]], progress: Callable[[float], None]) -> int:
    loaded = 0
    with writer.cursor() as cursor, cursor.copy(query("demo_load")) as copy:
        for rows, lines in batches:
            copy.write(lines)
            loaded += rows
            progress(loaded)
    return loaded


def burst(
    writer: Connection,
    *,
    commits: int,
    seconds: float,
    rows: int,
    quiet_seconds: float,
    progress: Callable[[float], None],
) -> Burst:
    """Commit that many single-row changes (of 10: 8 updates, 1 insert, 1 delete), spread over so many seconds at least.

    `rows` is the size of the table, just loaded: every change finds its row.
    """
    started = time.monotonic()
    former = started
    """Before the last change: what the daemon sees of it has the time of the trigger, not that of the commit."""
    long_pauses = 0
    pacing = Event()
    for number in range(commits):
        pacing.wait(max(0.0, started + seconds * number / commits - time.monotonic()))
        step, kind = divmod(number, 10)
        before = time.monotonic()
        if kind == 0:
            writer.execute(query("demo_insert"), {"flight": number})
        elif kind == 1 and step < _DELETED_ROWS:
            writer.execute(query("demo_delete"), {"id": step + 1})
        else:
            writer.execute(query("demo_update"), {"id": _DELETED_ROWS + 1 + number * _PRIME % (rows - _DELETED_ROWS)})
        long_pauses += time.monotonic() - former >= quiet_seconds
        former = before
        progress(number + 1)
    return Burst(commits, time.monotonic() - started, long_pauses)
