"""How long DDL waits for a table that is being exported: fired at random moments of running exports.

A statement's wait is the time until it has ACCESS EXCLUSIVE, the lock that TRUNCATE, ALTER TABLE and DROP TABLE all begin
with. It is taken in a statement of its own, so that a rewrite's own time does not count. Of each kind one in ten is
committed, as xloader does with data loaded anew; the others are rolled back, and the table needs no loading.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from psycopg import Rollback, errors

from bench.measurements import Goal, Outcome, seconds_of
from bench.rig import Rig, request_full
from bench.tables import RESOURCE_ID, append, create, load
from datastore_dumper.install import install
from tests.support.datastore import WRITE_ROLE
from tests.support.installation import ROLES, handle
from tests.support.postgres import Connection, ScratchDatabase
from tests.support.waiting import eventually

_LOCK_TIMEOUT_SECONDS = 15  # xloader's (ckanext/xloader/loader.py)
_P99_SECONDS = 0.5
_MAX_SECONDS = 2.0
_COMMITTED = 10  # one of so many
_PUBLISH_SECONDS = 60

_STATE = """
SELECT exporting_since IS NOT NULL, EXISTS (SELECT FROM datastore_dumper.change AS c WHERE c.relid = r.relid)
FROM datastore_dumper.resource AS r
WHERE r.relid = (SELECT relid FROM datastore_dumper.datastore_table)
"""


@dataclass
class _Kind:
    """One kind of statement, and what became of it."""

    name: str
    ddl: Callable[[Connection, int], None]
    empties: bool
    seconds: list[float] = field(default_factory=list)
    timeouts: int = 0


def run(rig: Rig) -> Outcome:
    rows = max(rig.rows // 6, 100)
    database = rig.empty()
    load(database, rows)
    install(handle(database), ROLES)
    kinds = [
        _Kind("TRUNCATE", _truncate, empties=True),
        _Kind("ALTER", _alter, empties=False),
        _Kind("DROP and CREATE", _recreate, empties=True),
    ]
    # A table that fails again and again waits longer each time; here it shall be exported all the time.
    with rig.daemon(database, "disk", retry_initial_seconds=0.1, retry_max_seconds=0.1) as daemon:
        longest = daemon.full().seconds
        chance = random.Random(7)
        for number in range(rig.times):
            if number % 20 == 0:
                rig.say(f"ddl: {number} of {rig.times} of each kind")
            for kind in chance.sample(kinds, len(kinds)):
                _fire(database, kind, number, chance.uniform(0, longest), rows)
        eventually(lambda: _is_fresh(database), timeout=_PUBLISH_SECONDS)
        cancelled = len(daemon.process.all("gave_way"))
    outcome = Outcome(facts={"rows": rows, "full_export_seconds": longest, "cancelled": cancelled})
    for kind in kinds:
        series = outcome.add(f"{kind.name}, wait", "s", kind.seconds)
        outcome.goals.append(Goal(f"{kind.name}, p99, seconds", series.percentile(99), _P99_SECONDS))
        outcome.goals.append(Goal(f"{kind.name}, max, seconds", max(series.values), _MAX_SECONDS))
    outcome.goals.append(Goal("failed by lock timeout", sum(kind.timeouts for kind in kinds), 0))
    rig.server.drop_database(database.name)
    return outcome


def _fire(database: ScratchDatabase, kind: _Kind, number: int, delay_seconds: float, rows: int) -> None:
    """Once an export runs and the delay is over."""
    lock = f'LOCK TABLE "{RESOURCE_ID}" IN ACCESS EXCLUSIVE MODE'.encode()
    with database.connect() as admin, database.connect(WRITE_ROLE) as writer:
        eventually(lambda: _is_exporting(database, admin), timeout=_PUBLISH_SECONDS, interval=0.01)
        threading.Event().wait(delay_seconds)
        with writer.transaction():
            writer.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT_SECONDS}s'".encode())
            try:
                kind.seconds.append(seconds_of(lambda: writer.execute(lock)))
            except errors.LockNotAvailable:
                kind.timeouts += 1
                kind.seconds.append(_LOCK_TIMEOUT_SECONDS)
                raise Rollback from None
            kind.ddl(writer, number)
            if number % _COMMITTED:
                raise Rollback
            if kind.empties:
                append(writer, 1, rows)


def _is_exporting(database: ScratchDatabase, admin: Connection) -> bool:
    """If it is not, and nothing is due, have it exported."""
    exporting, due = admin.execute(_STATE).fetchone() or (False, False)
    if not exporting and not due:
        request_full(database)
    return bool(exporting)


def _truncate(writer: Connection, number: int) -> None:
    writer.execute(f'TRUNCATE "{RESOURCE_ID}" RESTART IDENTITY'.encode())


def _alter(writer: Connection, number: int) -> None:
    """ADD COLUMN and ALTER TYPE by turns, among those that are committed, too."""
    if (number + number // _COMMITTED) % 2 == 0:
        writer.execute(f'ALTER TABLE "{RESOURCE_ID}" ADD COLUMN "added {number}" text'.encode())
    else:
        type_ = "bigint" if number // _COMMITTED % 4 == 1 else "int4"
        writer.execute(f'ALTER TABLE "{RESOURCE_ID}" ALTER COLUMN people TYPE {type_}'.encode())


def _recreate(writer: Connection, number: int) -> None:
    writer.execute(f'DROP TABLE "{RESOURCE_ID}"'.encode())
    create(writer)


def _is_fresh(database: ScratchDatabase) -> bool:
    with database.connect() as admin:
        row = admin.execute("SELECT fresh FROM datastore_dumper.lookup(%s, 'csv')", [RESOURCE_ID]).fetchone()
    return bool(row and row[0])
