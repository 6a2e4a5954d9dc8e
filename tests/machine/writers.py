"""Sessions that write, whose waits are watched: for whom, and for how long."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress

import psycopg
import pytest
from psycopg import errors, sql
from psycopg.pq import TransactionStatus

from tests.support.postgres import Connection, ScratchDatabase

LIMIT_SECONDS = 8.0
"""No statement may wait for us for longer, on a machine with other things to do."""

_GLANCE_SECONDS = 0.05

# What may become of a statement because of the writers themselves: each other's locks, names that are gone or taken, a
# transaction that failed before.
_OWN_FAULT = (
    errors.QueryCanceled,
    errors.UndefinedTable,
    errors.UndefinedColumn,
    errors.UndefinedObject,
    errors.DuplicateTable,
    errors.DuplicateColumn,
    errors.UniqueViolation,
    errors.DeadlockDetected,
    errors.SerializationFailure,
    errors.InFailedSqlTransaction,
    errors.ActiveSqlTransaction,
    errors.ObjectInUse,
    errors.ObjectNotInPrerequisiteState,
    errors.InvalidTextRepresentation,
    errors.NumericValueOutOfRange,
    errors.DatatypeMismatch,
    errors.NotNullViolation,
    errors.InvalidSavepointSpecification,
    errors.FeatureNotSupported,
)


class Writer:
    """A session of CKAN's write role, or of the superuser."""

    def __init__(self, database: ScratchDatabase, user: str | None, admin: Connection) -> None:
        self._connection = database.connect(user)
        self._admin = admin
        self._thread = ThreadPoolExecutor(1)
        self.waited_seconds = 0.0
        """The longest wait for a daemon."""

    @property
    def in_transaction(self) -> bool:
        return self._connection.info.transaction_status != TransactionStatus.IDLE

    @property
    def pid(self) -> int:
        return self._connection.info.backend_pid

    def execute(self, statement: str | sql.Composed) -> bool:
        """False if it failed for reasons of the writers' own; an open transaction is rolled back then."""
        return self._guarded(self._thread.submit(self._execute, statement))

    def copy(self, statement: sql.Composed, lines: list[str]) -> bool:
        return self._guarded(self._thread.submit(self._copy, statement, lines))

    def close(self) -> None:
        self._thread.shutdown()
        self._connection.close()

    def _execute(self, statement: str | sql.Composed) -> None:
        self._connection.execute(statement.encode() if isinstance(statement, str) else statement)

    def _copy(self, statement: sql.Composed, lines: list[str]) -> None:
        with self._connection.cursor().copy(statement) as copy:
            for line in lines:
                copy.write(line + "\n")

    def _guarded(self, future: Future[None]) -> bool:
        try:
            self._watch(future)
        except psycopg.Error as error:
            if not isinstance(error, _OWN_FAULT):
                raise
            context = error.diag.context or ""
            if "datastore_dumper" in context and not isinstance(
                error, errors.QueryCanceled | errors.SerializationFailure
            ):
                raise
            if self.in_transaction:
                self._connection.execute("ROLLBACK")
            return False
        return True

    def _watch(self, future: Future[None]) -> None:
        """Wait for the statement; cancel it if only writers are in its way, fail if a daemon is for too long."""
        began = time.monotonic()
        while True:
            with suppress(FutureTimeoutError):
                return future.result(_GLANCE_SECONDS)
            blockers = self._blockers()
            if not blockers:
                continue
            if not any(name.startswith("datastore-dumper") for name in blockers):
                self._connection.cancel_safe()
                return future.result()
            self.waited_seconds = max(self.waited_seconds, time.monotonic() - began)
            if self.waited_seconds > LIMIT_SECONDS:
                self._connection.cancel_safe()
                pytest.fail(f"a writer waited for {blockers} for more than {LIMIT_SECONDS} s")

    def _blockers(self) -> list[str]:
        """The names of the sessions that this one waits for, directly or by way of others."""
        rows = self._admin.execute(
            """
            WITH RECURSIVE waits (pid) AS (
                SELECT unnest(pg_blocking_pids(%s))
                UNION
                SELECT b FROM waits, unnest(pg_blocking_pids(waits.pid)) AS b
            )
            SELECT application_name FROM waits JOIN pg_stat_activity USING (pid)
            """,
            [self.pid],
        ).fetchall()
        return [name for (name,) in rows]
