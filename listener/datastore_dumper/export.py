"""Exports a table under one snapshot into spool files, one for each segment. Storing and publishing them is for others.

A holder transaction keeps the snapshot and no lock on the table. Each segment is a short transaction of its own that
imports the snapshot, locks the table against DDL (ACCESS SHARE), checks that the snapshot still shows it, copies, and lets
go before anybody uses the bytes.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import psycopg
from psycopg import errors, pq, sql

from datastore_dumper.choice import Size
from datastore_dumper.database import Connection
from datastore_dumper.deadline import Deadline
from datastore_dumper.errors import ExportError, GaveWayError, TableChangedError
from datastore_dumper.failpoints import failpoint
from datastore_dumper.formats import Column, Compat, Format, Table
from datastore_dumper.monitor.snapshots import holding, let_go
from datastore_dumper.plan import BUCKET_BITS, Fresh
from datastore_dumper.spool import SegmentFile
from datastore_dumper.sqlfiles import query

_BATCH_BYTES = 256 * 1024  # hashing and writing go by blocks of this size; a row is some hundred bytes
_STALL_SECONDS = 300  # a COPY that sends nothing for so long is broken off
# A session from which nobody took what Postgres sent, or to which nobody said anything, for so long is ended, and with it
# the lock on the table: if this process is frozen, there may be nobody else to give way. Less than the 15 s that xloader
# waits for a lock.
_FROZEN_MILLISECONDS = 10_000
_LEAST_ROW_BYTES = 28  # header and line pointer (PostgreSQL: "Database Page Layout")


@dataclass(frozen=True)
class TableState:
    """What a snapshot shows of a table, apart from its rows."""

    relid: int
    table: Table
    filenode: int
    signature: str
    changes: tuple[tuple[str, int], ...]
    """The change rows that the snapshot shows, as (transaction id, bucket): what publishing may forget."""
    snapshot_name: str
    """For SET TRANSACTION SNAPSHOT, while the holder lives."""
    snapshot: str
    lsn: str
    timeline: int
    server_started_at: datetime
    """Of the primary, which together with the two before tells whether it is the same later."""
    generated_at: datetime
    estimated_rows: int
    is_watched: bool
    """All triggers are there and sound: with the same signature as before, every change since is a change row."""
    on_standby: bool = False


@contextmanager
def hold_snapshot(connection: Connection, relid: int, primary: Connection | None = None) -> Iterator[TableState]:
    """Take a snapshot and keep it. Raises `TableChangedError` if the table is gone.

    `primary` is given if `connection` is to a standby. There the holder keeps no lock on anything: replay waits for readers
    (VACUUM shortens our own tables, too, and on the primary it would give way).
    """
    prepare = primary is None  # on a standby it would be forgotten at the end of the block below
    failpoint("before_snapshot")
    filenode = _filenode(connection, relid)
    connection.begin(query("begin_snapshot"))
    held_since = holding()
    try:
        exported = connection.execute(query("export_snapshot")).fetchone()
        assert exported is not None, "one row"
        snapshot_name, snapshot = exported
        position = (primary or connection).execute(query("wal_position")).fetchone()
        assert position is not None, "one row"
        lsn, timeline, server_started_at = position
        with connection.transaction(force_rollback=True) if primary else nullcontext():
            state = connection.execute(query("table_state"), {"relid": relid}, prepare=prepare).fetchone()
            if state is None or filenode is None:
                raise TableChangedError(f"Table {relid} is gone or no DataStore table any more")
            resource_id, signature, generated_at, estimated_rows, is_watched = state
            columns = tuple(
                Column(*row) for row in connection.execute(query("columns"), {"relid": relid}, prepare=prepare)
            )
            changes = tuple(connection.execute(query("changes_seen"), {"relid": relid}).fetchall())
        failpoint("after_snapshot")
        yield TableState(
            relid=relid,
            table=Table(resource_id, columns),
            filenode=filenode,
            signature=signature,
            changes=changes,
            snapshot_name=snapshot_name,
            snapshot=snapshot,
            lsn=lsn,
            timeline=timeline,
            server_started_at=server_started_at,
            generated_at=generated_at,
            estimated_rows=estimated_rows,
            is_watched=is_watched,
            on_standby=primary is not None,
        )
    finally:
        let_go(held_since)
        _end(connection, "COMMIT")


class ManyRowsError(Exception):
    """There may be more rows than the caller asked for; nothing was read."""


@dataclass(frozen=True)
class SegmentReader:
    """Reads segments of one snapshot. `connection` runs them; `witness` is another session, for a look at the catalogs
    as committed now; `settings` are those of CKAN's read role that change the text of values."""

    connection: Connection
    witness: Connection
    state: TableState
    compat: Compat
    settings: tuple[tuple[str, str], ...]
    lock_timeout_seconds: float
    stop: threading.Event

    def export(
        self,
        format_: Format,
        part: Fresh,
        path: Path,
        progress: Callable[[int], None],
        most_rows: int | None = None,
    ) -> SegmentFile:
        """Write the segment to a new file. `progress` gets the number of rows so far, and may raise to break it off.

        Raises `TableChangedError` if the snapshot no longer shows the table, `GaveWayError` if its lock is not to be
        had, `UnsupportedTypeError` if the format cannot write a column, `ManyRowsError` if the table's pages have room for
        more than `most_rows`.
        """
        failpoint("before_segment")
        copy = format_.copy_query(self.state.table, self.compat, _where(part)).as_string(self.connection)
        with self._explained(), self._locked_snapshot(format_.settings):
            if most_rows is not None and self._heap_bytes() > most_rows * _LEAST_ROW_BYTES:
                raise ManyRowsError
            with path.open("xb") as spool:
                segment = self._copy(copy, format_, part, spool, path, progress)
        failpoint("after_segment")
        return segment

    def _heap_bytes(self) -> int:
        row = self.connection.execute(query("heap_bytes"), {"relid": self.state.relid}).fetchone()
        assert row is not None, "one row"
        heap_bytes: int = row[0]
        return heap_bytes

    def boundaries(
        self, first: int | None, last: int | None, rows: int, most: int, *, by_ids: bool = False
    ) -> list[int]:
        """Buckets at which segments of about so many rows begin, at most `most` of them, within [first, last].

        The first is the first bucket that has rows. Empty: there are none. Raises what `export` raises.
        """
        name = self.state.table.identifier.as_string(self.connection).replace("%", "%%")  # beside placeholders
        text = query("boundaries_by_id") if by_ids else query("boundaries")
        statement = text.replace("{table}", name).encode()
        bounds = {
            "first_id": -(2**63) if first is None else first << BUCKET_BITS,
            "last_id": 2**63 - 1 if last is None else ((last + 1) << BUCKET_BITS) - 1,
        }
        step = {"buckets": max(rows >> BUCKET_BITS, 1)} if by_ids else {"rows": rows}
        with self._explained(), self._locked_snapshot(()):
            return [row[0] for row in self.connection.execute(statement, {**bounds, **step, "most": most})]

    def measure(self, least_rows: int) -> Size:
        """How many rows the table has in the snapshot, if they are fewer than `least_rows`, and its bytes now.

        Raises what `export` raises.
        """
        name = self.state.table.identifier.as_string(self.connection).replace("%", "%%")  # beside placeholders
        statement = query("measure").replace("{table}", name).encode()
        with self._explained(), self._locked_snapshot(()):
            row = self.connection.execute(statement, {"relid": self.state.relid, "most": least_rows}).fetchone()
        assert row is not None, "one row"
        return Size(*row)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """What the driver raises, as what the caller can do about it."""
        name = self.state.table.resource_id
        try:
            yield
        except (errors.LockNotAvailable, errors.DeadlockDetected, errors.QueryCanceled) as error:
            raise GaveWayError(f"{name} is locked by somebody else: {_reason(error)}") from error
        except (
            errors.UndefinedTable,
            errors.UndefinedColumn,
            errors.UndefinedFunction,
            errors.SnapshotTooOld,
        ) as error:
            raise TableChangedError(f"{name} was altered: {_reason(error)}") from error

    @contextmanager
    def _locked_snapshot(self, settings: tuple[tuple[str, str], ...]) -> Iterator[None]:
        connection = self.connection
        connection.begin(query("begin_snapshot"))
        try:
            connection.execute(self._preparation(settings))
            self._require_unchanged()
            yield
        finally:
            _end(connection, "ROLLBACK")  # a type's own cast to JSON may have set something for the session

    def _preparation(self, settings: tuple[tuple[str, str], ...]) -> sql.Composed:
        """What a transaction on the snapshot begins with, the table's lock last: one message, for each is a round trip, and a
        small table takes little more than those."""
        state = self.state
        local = [
            ("lock_timeout", f"{int(self.lock_timeout_seconds * 1000)}ms"),
            ("tcp_user_timeout", f"{_FROZEN_MILLISECONDS}"),
            ("idle_in_transaction_session_timeout", f"{_FROZEN_MILLISECONDS}"),
            *self.settings,
            *settings,
            # psycopg2, CKAN's driver, sets the ISO style at connection and keeps the order of day and month.
            ("datestyle", "ISO"),
        ]
        return sql.SQL("; ").join(
            [
                sql.SQL("SET TRANSACTION SNAPSHOT {}").format(state.snapshot_name),
                *(sql.SQL("SET LOCAL {} = {}").format(sql.Identifier(name), value) for name, value in local),
                sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(state.table.identifier),
            ]
        )

    def _require_unchanged(self) -> None:
        state = self.state
        name = state.table.identifier.as_string(self.connection)
        same = self.connection.execute(
            query("same_storage"), {"relid": state.relid, "filenode": state.filenode, "name": name}
        ).fetchone()
        if same != (True,):
            raise TableChangedError(f"{state.table.resource_id} was truncated, rewritten or dropped during the export")
        same = self.witness.execute(
            query("same_columns"), {"relid": state.relid, "signature": state.signature}, prepare=True
        ).fetchone()
        if same != (True,):
            raise TableChangedError(f"{state.table.resource_id} was altered during the export")

    def _copy(
        self, copy: str, format_: Format, part: Fresh, spool: BinaryIO, path: Path, progress: Callable[[int], None]
    ) -> SegmentFile:
        digest = hashlib.sha256()
        length = 0
        with (
            Deadline(self.connection, _STALL_SECONDS) as deadline,
            closing(copy_out(self.connection, copy)) as messages,
        ):
            counted = _Counted(messages)
            for batch in self._pieces(format_, counted):
                if self.stop.is_set():
                    raise ExportError(f"The export of {self.state.table.resource_id} was broken off: the daemon stops")
                deadline.extend()
                spool.write(batch)
                digest.update(batch)
                length += len(batch)
                progress(counted.rows)
                failpoint("within_segment")
        return SegmentFile(part.first, part.last, path, counted.rows, length, digest.hexdigest())

    def _pieces(self, format_: Format, messages: Iterator[list[bytes]]) -> Iterator[bytes]:
        """The bytes of the segment, in pieces of some 256 KiB."""
        if format_.verbatim:
            return map(b"".join, messages)
        return _batches(format_.rows(chain.from_iterable(messages), self.state.table, self.compat))


def copy_out(connection: Connection, copy: str) -> Generator[list[bytes], None, None]:
    """The messages of a COPY .. TO STDOUT, one for each row (protocol, "COPY Operations"), in lists of some 256 KiB.

    Goes below psycopg's `Copy`, and gathers them in one loop: what is done for each row is most of what an export costs us
    (docs/decisions.md). Raises psycopg's errors. Close it: a COPY that is not read to its end is cancelled.
    """
    pgconn = connection.pgconn
    result = pgconn.exec_(copy.encode())
    if result.status != pq.ExecStatus.COPY_OUT:
        raise errors.error_from_result(result)
    receive = pgconn.get_copy_data
    finished = False
    rows = size = 0
    try:
        while size >= 0:  # -1: the rows have ended
            batch: list[bytes] = []
            room = _BATCH_BYTES
            while room > 0:
                size, data = receive(0)
                if size < 0:
                    break
                batch.append(bytes(data))
                room -= size
            if batch:
                rows += len(batch)
                yield batch
        finished = True
        # The rows may end because of an error: the result that follows tells. The last result is always None.
        ends = list(iter(pgconn.get_result, None))
        for end in ends:
            if end.status == pq.ExecStatus.FATAL_ERROR:
                raise errors.error_from_result(end)
        if [end.command_tuples for end in ends] != [rows]:
            raise psycopg.OperationalError(f"COPY ended after {rows} rows without saying that these are all")
    finally:
        if not finished and pgconn.status == pq.ConnStatus.OK:
            connection.cancel()
            while size >= 0:
                size, _ = receive(0)
            while pgconn.get_result() is not None:
                pass


class _Counted(Iterator[list[bytes]]):
    """Passes lists of messages on and counts the messages, which are rows."""

    def __init__(self, messages: Iterator[list[bytes]]) -> None:
        self._messages = messages
        self.rows = 0

    def __next__(self) -> list[bytes]:
        batch = next(self._messages)
        self.rows += len(batch)
        return batch


def _batches(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same in pieces of some 256 KiB."""
    batch: list[bytes] = []
    size = 0
    for piece in pieces:
        batch.append(piece)
        size += len(piece)
        if size >= _BATCH_BYTES:
            yield b"".join(batch)
            batch, size = [], 0
    if batch:
        yield b"".join(batch)


def _where(part: Fresh) -> sql.Composable:
    bounds: list[sql.Composable] = []
    if part.first is not None:
        bounds.append(sql.SQL("_id >= {}").format(part.first << BUCKET_BITS))
    if part.last is not None:
        bounds.append(sql.SQL("_id < {}").format((part.last + 1) << BUCKET_BITS))
    return sql.SQL(" AND ").join(bounds) if bounds else sql.SQL("true")


def _filenode(connection: Connection, relid: int) -> int | None:
    row = connection.execute(query("filenode"), {"relid": relid}).fetchone()
    return row[0] if row is not None else None


def _end(connection: Connection, statement: str) -> None:
    """End a transaction that only read, unless the connection broke: then there is none, and the error under way tells more.
    After a ROLLBACK psycopg forgets what it prepared, hence COMMIT (which is one if the transaction failed)."""
    if not connection.closed and not connection.broken:
        try:
            connection.execute(statement.encode())
        except psycopg.Error:
            # The server ended the session while it was idle. It was not needed any more, or the error under way tells.
            if not connection.broken:
                raise


def _reason(error: psycopg.Error) -> str:
    return error.diag.message_primary or str(error)
