"""What must always hold, looked at from outside while everything goes on: files, lookups, and waits for locks."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import psycopg

from datastore_dumper.errors import ObjectMissingError
from datastore_dumper.storage.base import Storage
from tests.support.postgres import Connection
from tests.torture.arena import Arena
from tests.torture.faults import Faults
from tests.torture.ledger import FORMATS, State, committed, newest, state_of

_AFTER_THAW_SECONDS = 3
_STALLED_SECONDS = 0.5
_WAITS = """
SELECT coalesce(max(extract(epoch FROM clock_timestamp() - w.waitstart)) * 1000, 0)::int,
    string_agg(DISTINCT a.query || ' <- ' || o.application_name || ': ' || o.query, '; ')
FROM pg_locks AS w
JOIN pg_stat_activity AS a ON a.pid = w.pid AND a.usename = 'ckan_write' AND a.datname = current_database()
JOIN pg_stat_activity AS o ON o.pid = ANY (pg_blocking_pids(w.pid)) AND o.application_name LIKE 'datastore-dumper%'
WHERE NOT w.granted AND w.waitstart IS NOT NULL
"""


@dataclass
class Findings:
    """Counts of what must not be, each with what is known about it. Waits in milliseconds."""

    torn: list[str] = field(default_factory=list)
    backwards: list[str] = field(default_factory=list)
    stale_served: list[str] = field(default_factory=list)
    published: int = 0
    checked_files: int = 0
    checked_lookups: int = 0
    fresh_lookups: int = 0
    max_ddl_wait_ms: int = 0
    max_ddl_wait_frozen_ms: int = 0
    """The same while something was frozen, which cannot give way by itself."""
    longest_wait: str = ""
    failures: list[str] = field(default_factory=list)
    """Checks that could not go on."""


class Observer:
    """Checks every published file, lookups all the time, and who waits for us."""

    def __init__(self, arena: Arena, faults: Faults, names: list[str], seed: int) -> None:
        self.findings = Findings()
        self._arena = arena
        self._faults = faults
        self._names = names
        self._dice = random.Random(f"observer {seed}")
        self._states: dict[str, State] = {}
        self._last: dict[tuple[str, str], State] = {}
        self._looked_at = time.monotonic()
        self._number = 0
        self._lock = threading.Lock()

    def tasks(self) -> list[Callable[[threading.Event], None]]:
        """To be run in threads of their own until the event is set."""
        return [self._repeat(self._watch_waits), self._repeat(self._look_up), self._repeat(self._check_published)]

    def finish(self) -> None:
        """Check what was published since the last look."""
        with self._arena.connect() as admin:
            self._check_published(admin, self._arena.storage, threading.Event())

    def _repeat(
        self, check: Callable[[Connection, Storage, threading.Event], None]
    ) -> Callable[[threading.Event], None]:
        storage = self._arena.storage

        def task(stop: threading.Event) -> None:
            while not stop.is_set():
                try:
                    with self._arena.connect() as connection:
                        while not stop.is_set():
                            check(connection, storage, stop)
                except psycopg.OperationalError:
                    stop.wait(0.2)  # Postgres was crashed on purpose
                except Exception as error:  # noqa: BLE001 - whatever it is, a check that ended must show
                    self.findings.failures.append(f"{check.__name__}: {error!r}")
                    stop.wait(1)

        return task

    def _watch_waits(self, connection: Connection, storage: Storage, stop: threading.Event) -> None:
        stop.wait(0.1)
        row = connection.execute(_WAITS).fetchone()
        assert row is not None
        waited, who = row
        findings = self.findings
        since, self._looked_at = time.monotonic() - self._looked_at, time.monotonic()
        # A machine that stands still for longer than between two looks is as good as frozen.
        if self._faults.frozen_within(_AFTER_THAW_SECONDS) or since > _STALLED_SECONDS:
            findings.max_ddl_wait_frozen_ms = max(findings.max_ddl_wait_frozen_ms, waited)
        elif waited > findings.max_ddl_wait_ms:
            findings.max_ddl_wait_ms, findings.longest_wait = waited, who or ""

    def _look_up(self, connection: Connection, storage: Storage, stop: threading.Event) -> None:
        stop.wait(0.02)
        name, format_name = self._dice.choice(self._names), self._dice.choice(FORMATS)
        with connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            row = connection.execute(
                "SELECT storage_key, fresh FROM datastore_dumper.lookup(%s, %s)", [name, format_name]
            ).fetchone()
            now = newest(connection, name)
        self.findings.checked_lookups += 1
        if row is None or not row[1]:
            return
        self.findings.fresh_lookups += 1
        shown = self._state(storage, row[0])
        if shown is None:
            self.findings.stale_served.append(f"{name}.{format_name}: fresh, and there is no object {row[0]}")
        elif shown != now:
            self.findings.stale_served.append(f"{name}.{format_name}: {shown} handed out, committed is {now}: {row[0]}")

    def _check_published(self, connection: Connection, storage: Storage, stop: threading.Event) -> None:
        stop.wait(0.1)
        rows = connection.execute(
            "SELECT number, name, format, key FROM torture.publication WHERE number > %s ORDER BY number LIMIT 200",
            [self._number],
        ).fetchall()
        for number, name, format_name, key in rows:
            shown = self._state(storage, key)
            if shown is not None:
                self._judge(connection, name, format_name, key, shown)
            self.findings.published += 1
            self._number = number

    def _judge(self, connection: Connection, name: str, format_name: str, key: str, shown: State) -> None:
        self.findings.checked_files += 1
        was = committed(connection, name, shown.version)
        if was != shown:
            self.findings.torn.append(f"{key} shows {shown}, committed was {was}")
        before = self._last.get((name, format_name))
        if before is not None and before.version > shown.version:
            self.findings.backwards.append(f"{key} shows version {shown.version}, the file before {before.version}")
        self._last[name, format_name] = shown

    def _state(self, storage: Storage, key: str) -> State | None:
        """What an object shows. None if it is gone: we came too late."""
        with self._lock:
            known = self._states.get(key)
        if known is None:
            try:
                with storage.open(key) as stream:
                    known = state_of(stream.read())
            except ObjectMissingError:
                return None
            with self._lock:
                self._states[key] = known
        return known


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether it came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)  # what is waited for is in Postgres or another process, which ring no bell here
    return True
