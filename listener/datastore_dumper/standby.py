"""Decides where an export reads: on a streaming standby if there is one that will do, else on the primary.

A standby will do once it shows the very claim that the export runs under. The claim is a row that was committed on the
primary under a name that no other claim has (owner and epoch), and a standby replays commits in the order of the
primary's WAL. So one that shows the row

- has this primary's history, not that of another cluster, of an old timeline or of a restored copy,
- shows every change that made the table due, for these were committed before the claim,
- shows all that the published file shows: that was published, on the primary, before the table could be claimed again.

That is more than a comparison of WAL positions proves, and needs no rights. Lease, announcements and publishing are never
here: they are the primary's. What becomes of an export that fails for other reasons is the worker's business.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

import psycopg
from psycopg import errors

from datastore_dumper.database import Connection, Database, takes_no_writes
from datastore_dumper.deadline import Deadline
from datastore_dumper.errors import DumperError, ExportError, StorageError, UnavailableError
from datastore_dumper.export import TableState, hold_snapshot
from datastore_dumper.lease import Lease
from datastore_dumper.logs import get_logger
from datastore_dumper.sqlfiles import query
from datastore_dumper.watchdog import watch

log = get_logger(__name__)

T = TypeVar("T")

_ATTEMPTS = 2  # on the standby, before the primary
_POLL_SECONDS = 0.02  # a standby that keeps up is some milliseconds behind
_ANSWER_SECONDS = 30  # a standby that does not answer at all is given up after so long
# A standby that was no use is not asked again for so long: every export would wait for it before it goes to the primary.
_REST_SECONDS = 10

# What replay does to its readers (PostgreSQL: "Handling Query Conflicts") is mostly 40001, 40P01 and class 57, all of them
# operational errors. The others: the holder was ended by a conflict, so its snapshot is no longer to be had.
_CONFLICTS = (
    psycopg.OperationalError,
    errors.UndefinedObject,
    errors.InvalidParameterValue,
    errors.ObjectNotInPrerequisiteState,
)


class StandbyUnusableError(ExportError):
    """The standby will not do now. `event` is what it is logged as."""

    def __init__(self, event: str, message: str) -> None:
        super().__init__(message)
        self.event = event


class StandbyAheadError(ExportError):
    """The standby shows a transaction that the primary does not show yet."""


class Standby:
    """The standby that exports read. One for all workers of a process."""

    def __init__(self, database: Database, wait_seconds: float) -> None:
        self.database = database
        self._wait_seconds = wait_seconds
        self._rests_until = float("-inf")
        self._exporting = 0
        self._lock = threading.Lock()

    def check(self, primary: Connection) -> None:
        """Say what is wrong with the standby, if anything is: no reason not to start."""
        try:
            with self.database.connect("check") as connection, Deadline(connection, _ANSWER_SECONDS):
                if not _is_in_recovery(connection):
                    log.warning("standby_refused", error=_PROMOTED)
                elif _system(connection) != _system(primary):
                    log.warning("standby_refused", error=_FOREIGN)
        except (DumperError, psycopg.Error) as error:
            log.warning("standby_unavailable", error=_first_line(error))

    def watch(self, stop: threading.Event) -> None:
        """Give way to the replay of TRUNCATE and DDL until `stop` is set, as the watchdog does on the primary."""
        while not stop.is_set():
            try:
                watch(self.database, stop, lambda: self._exporting > 0)
            except DumperError as error:
                # No reason for the daemon to end, as it would be on the primary.
                log.warning("standby_unavailable", error=error.message)
                stop.wait(_REST_SECONDS)

    def first(self, make: Callable[[], T], primary: Connection, resource_id: str) -> T | None:
        """What `make` makes on the standby, tried again after a conflict. None: go to the primary.

        Raises what `make` raises for reasons that have nothing to do with where it reads.
        """
        if time.monotonic() < self._rests_until:
            return None
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with self._counted():
                    return make()
            except StandbyUnusableError as error:
                self._give_up(error.event, resource_id, error)
                return None
            except StandbyAheadError as error:
                log.info("standby_ahead", resource_id=resource_id, attempt=attempt, error=error.message)
            except UnavailableError as error:
                if isinstance(error, StorageError):
                    raise
                self._give_up("standby_unavailable", resource_id, error)
                return None
            except _CONFLICTS as error:
                if primary.broken or primary.closed:
                    raise
                if error.sqlstate is None:
                    self._give_up("standby_unavailable", resource_id, error)
                    return None
                log.warning(
                    "standby_conflict",
                    resource_id=resource_id,
                    attempt=attempt,
                    sqlstate=error.sqlstate,
                    error=_first_line(error),
                )
        return None

    @contextmanager
    def hold_snapshot(
        self, connection: Connection, primary: Connection, lease: Lease, stop: threading.Event
    ) -> Iterator[TableState]:
        """Wait until the standby shows the claim, then take a snapshot there and keep it.

        The state's time is that of the claim, by the primary's clock: every commit before it is in the snapshot. Raises
        `StandbyUnusableError` if the standby does not catch up in time or is none any more, `TableChangedError` if the
        table is gone.
        """
        with ExitStack() as stack:
            with Deadline(connection, self._wait_seconds + _ANSWER_SECONDS):
                self._await_claim(connection, primary, lease, stop)
                state = stack.enter_context(hold_snapshot(connection, lease.relid, primary))
                with connection.transaction(force_rollback=True):  # lets go of the lock on the leases
                    # Asked again, because what counts is what this snapshot shows, of a server still in recovery.
                    claimed_at = _claimed_at(connection, lease)
            if claimed_at is None:
                raise StandbyUnusableError("standby_behind", "The claim is gone from the standby's snapshot")
            yield replace(state, generated_at=claimed_at)

    def _await_claim(self, connection: Connection, primary: Connection, lease: Lease, stop: threading.Event) -> None:
        deadline = time.monotonic() + self._wait_seconds
        while _claimed_at(connection, lease) is None:
            if stop.is_set():
                raise ExportError(f"The export of {lease.resource_id} was broken off: the daemon stops")
            lease.require()
            if time.monotonic() >= deadline:
                if _system(connection) != _system(primary):
                    raise StandbyUnusableError("standby_refused", _FOREIGN)
                raise StandbyUnusableError(
                    "standby_behind", f"The standby is more than {self._wait_seconds:g} s behind the primary"
                )
            stop.wait(_POLL_SECONDS)

    def _give_up(self, event: str, resource_id: str, error: Exception) -> None:
        self._rests_until = time.monotonic() + _REST_SECONDS
        log.warning(event, resource_id=resource_id, error=_first_line(error))

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._lock:
            self._exporting += 1
        try:
            yield
        finally:
            with self._lock:
                self._exporting -= 1


_PROMOTED = "database.replica_dsn leads to a server that is not in recovery: it was promoted, or is no standby"
_FOREIGN = "database.replica_dsn leads to a standby of another cluster than database.dsn"


def require_shown_by_primary(primary: Connection, state: TableState) -> None:
    """Refuse a state that the primary does not show yet. Raises `StandbyAheadError`.

    A transaction becomes visible on a standby as soon as its commit record is replayed, on the primary only a moment later;
    with synchronous replication to a server that is away, much later. Until then a file that shows it is ahead of the
    primary, and the next export there would put an older state in its place. Every transaction that touched the table left
    change rows, so it is enough that the primary shows those.
    """
    xids, buckets = [xid for xid, _ in state.changes], [bucket for _, bucket in state.changes]
    shown = primary.execute(query("changes_shown"), {"relid": state.relid, "xids": xids, "buckets": buckets}).fetchone()
    if shown != (True,):
        raise StandbyAheadError(f"The primary does not show all changes of {state.table.resource_id} yet")


def _claimed_at(connection: Connection, lease: Lease) -> datetime | None:
    """When the claim was made, or None if it has not been replayed. Raises `StandbyUnusableError` on a primary."""
    row = connection.execute(
        query("claim_replayed"), {"relid": lease.relid, "epoch": lease.epoch, "owner": lease.owner}
    ).fetchone()
    in_recovery: bool
    claimed_at: datetime | None
    in_recovery, claimed_at = row or (False, None)
    if not in_recovery:
        raise StandbyUnusableError("standby_refused", _PROMOTED)
    return claimed_at


def require_primary(connection: Connection) -> None:
    """Raise `UnavailableError` if the server of database.dsn is a standby: it may be promoted."""
    if _is_in_recovery(connection):
        raise takes_no_writes("it is a standby")


def _is_in_recovery(connection: Connection) -> bool:
    """Whether the server is a standby (PostgreSQL, 9.28.4)."""
    return connection.execute(query("in_recovery")).fetchone() == (True,)


def _system(connection: Connection) -> object:
    return connection.execute(query("system_identifier")).fetchone()


def _first_line(error: Exception) -> str:
    text = error.message if isinstance(error, DumperError) else str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
