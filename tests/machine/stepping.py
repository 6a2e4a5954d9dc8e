"""A daemon taken apart: its real parts (look, worker, leases, reconciler, garbage collection), one step at a time.

A step runs in a thread of its own until it ends, or halts at a failpoint; then it is resumed, or the daemon is killed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from datastore_dumper import failpoints, segments
from datastore_dumper.choice import Selection
from datastore_dumper.database import Connection, Database
from datastore_dumper.due import IMMEDIATELY, agenda
from datastore_dumper.errors import DumperError
from datastore_dumper.formats import Compat, file_format
from datastore_dumper.garbage import collect_garbage
from datastore_dumper.lease import Leases
from datastore_dumper.look import look
from datastore_dumper.ownership import Ownership
from datastore_dumper.processes import SegmentProcesses
from datastore_dumper.reader import reader_settings, recipe_of
from datastore_dumper.reconcile import reconcile
from datastore_dumper.storage.base import Storage
from datastore_dumper.worker import Worker, WorkSettings

FORMATS = ("csv", "csv-bom", "csv.gz", "json")
COMPAT = Compat()
STEP_SECONDS = 60
LEASE_SECONDS = 30

_steps: dict[int, Step] = {}


class Killed(BaseException):
    """The process is gone: raised where the step stands, so that it does nothing more."""


class Step:
    """Something that a daemon does, in a thread. `halted_at` is the failpoint where it stands, if it does."""

    def __init__(self, work: Callable[[], object], halt_at: str = "") -> None:
        self.halted_at = ""
        self.error: BaseException | None = None
        self.is_killed = False
        self._halt_at = halt_at
        self._news = threading.Condition()
        self._is_over = False
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    def wait(self) -> bool:
        """Until it halts or ends: True if it ended."""
        with self._news:
            if not self._news.wait_for(lambda: self._is_over or self.halted_at, STEP_SECONDS):
                pytest.fail(f"a step of a daemon neither ended nor halted within {STEP_SECONDS} s")
        if self._is_over:
            self._thread.join()
            if self.error is not None and not self.is_killed:
                raise self.error
        return self._is_over

    def resume(self) -> None:
        """Go on to the end."""
        with self._news:
            self._halt_at = self.halted_at = ""
            self._news.notify_all()
        self.wait()

    def kill(self) -> None:
        self.is_killed = True
        self.resume()

    def pass_by(self, name: str) -> None:
        """In the thread."""
        if name == self._halt_at:
            with self._news:
                self.halted_at = name
                self._news.notify_all()
                self._news.wait_for(lambda: not self.halted_at)
        if self.is_killed:
            raise Killed

    def _run(self, work: Callable[[], object]) -> None:
        _steps[threading.get_ident()] = self
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - the thread that waits raises it
            self.error = error
        finally:
            del _steps[threading.get_ident()]
            with self._news:
                self._is_over = True
                self._news.notify_all()


def _pass_by(name: str) -> None:
    step = _steps.get(threading.get_ident())
    if step is not None:
        step.pass_by(name)


@contextmanager
def stepping() -> Iterator[None]:
    """Failpoints halt steps; segments are as short as they can be, and exports do not wait long for a lock."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(failpoints, "_actions", {"all": "halt"})
        patch.setattr(failpoints, "_act", _pass_by)
        patch.setattr(segments, "_MIN_ROWS", 1)
        patch.setattr(segments, "_ATTEMPTS", 3)
        patch.setattr(segments, "_PAUSE_SECONDS", 0.01)
        yield


class Mortal:
    """A storage that does nothing more for a daemon that was killed."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.is_dead = False

    def __getattr__(self, name: str) -> Any:
        if self.is_dead:
            raise Killed
        return getattr(self._storage, name)


class SteppedDaemon:
    """One daemon of several."""

    def __init__(
        self,
        name: str,
        database: Database,
        storage: Storage,
        processes: SegmentProcesses,
        spool: Path,
        segment_bytes: int,
    ) -> None:
        self.name = name
        self.step: Step | None = None
        """The one that stands at a failpoint."""
        self._database = database
        self._mortal = Mortal(storage)
        self.leases = Leases(name, LEASE_SECONDS)
        settings = WorkSettings(
            selection=Selection(FORMATS),
            formats=tuple(file_format(each) for each in FORMATS),
            compat=COMPAT,
            ckan_read_role=None,
            lock_timeout_seconds=0.05,
            segment_bytes=segment_bytes,
            retry_initial_seconds=0,
            retry_max_seconds=0,
            retain_seconds=0,
        )
        self._connection = database.connect("step")
        ownership = Ownership(self._mortal, lambda: settings.retain_seconds)
        ownership.settle(self._connection)
        self._worker = Worker(
            database, None, self._mortal, self.leases, ownership, settings, processes, spool, threading.Event()
        )

    def select(self, selection: Selection) -> None:
        """What the configuration says of tables and formats from here on."""
        self._worker.settings = replace(self._worker.settings, selection=selection)

    @property
    def compats(self) -> Mapping[str, str]:
        return {each: str(file_format(each).format.compat(COMPAT)) for each in FORMATS}

    def due(self) -> list[int]:
        """The tables to export, longest overdue first."""
        pending, now = look(self._connection)
        return [] if now is None else [each.relid for each in agenda(pending, IMMEDIATELY, now).due]

    def dump(self, relid: int, halt_at: str = "") -> None:
        self._do(lambda: self._worker.dump(relid), halt_at)

    def reconcile(self, halt_at: str = "") -> None:
        self._do(
            lambda: reconcile(
                self._connection,
                self._worker.settings.selection,
                compats=self.compats,
                recipe=recipe_of(reader_settings(self._connection, None)),
                retain_seconds=0,
            ),
            halt_at,
        )

    def collect(self, halt_at: str = "") -> None:
        self._do(lambda: collect_garbage(self._connection, self._mortal), halt_at)

    def renew(self) -> None:
        self.leases.renew(self._connection)

    def lose_trust(self) -> None:
        """As if so much time had passed for this process, too."""
        for lease in list(self.leases._held.values()):
            lease.trusted_until = time.monotonic() - 1

    def resume(self) -> None:
        """Whoever stood too long within a transaction finds the connection gone, and makes another, as the daemon does."""
        if self.step is None:
            return
        try:
            self.step.resume()
        except (DumperError, psycopg.Error):
            if not self._connection.closed:
                raise
            self._connection = self._database.connect("step")
        finally:
            self.step = None

    def kill(self) -> None:
        """Its connections break, its storage does not hear it, and its step ends where it stands."""
        self._mortal.is_dead = True
        pids = []
        for connection in self._connections():
            if not connection.closed:
                pids.append(connection.info.backend_pid)
                with suppress(psycopg.Error):
                    connection.close()
        self._await_end(pids)
        if self.step is not None:
            self.step.kill()
            self.step = None
        self._worker.close()

    def close(self) -> None:
        self.resume()
        self._worker.close()
        self._connection.close()

    def _do(self, work: Callable[[], object], halt_at: str) -> None:
        step = Step(work, halt_at)
        self.step = None if step.wait() else step

    def _connections(self) -> list[Connection]:
        return [self._connection, *self._worker._connections.values()]

    def _await_end(self, pids: list[int]) -> None:
        """The server rolls back what was open: at once, but not before it has noticed."""
        with self._database.connect("kill") as connection:
            deadline = time.monotonic() + STEP_SECONDS
            while connection.execute(
                "SELECT 1 FROM pg_stat_activity WHERE pid = ANY (%s) AND application_name LIKE 'datastore-dumper%%'",
                [pids],
            ).fetchone():
                assert time.monotonic() < deadline, "backends of a daemon that was killed live on"
                threading.Event().wait(0.005)
