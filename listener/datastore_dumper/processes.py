"""Worker processes that export segments: Postgres formats in its backends, and these keep up with several at once.

They are spawned, not forked, and hold two connections to each server that is read. A process does what it is told and
returns; which segments there are, and in what order they are wanted, is `segments`' business. They end with the daemon,
however it ends.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path

import psycopg

from datastore_dumper.database import Connection, Database
from datastore_dumper.errors import ExportError
from datastore_dumper.export import SegmentReader, TableState
from datastore_dumper.failpoints import arm
from datastore_dumper.formats import Compat, file_format
from datastore_dumper.plan import Fresh
from datastore_dumper.spool import SegmentFile


@dataclass(frozen=True)
class SegmentTask:
    """One segment to export into a new file at `path`."""

    database: Database
    """Where the snapshot is."""
    state: TableState
    format_name: str
    compat: Compat
    settings: tuple[tuple[str, str], ...]
    lock_timeout_seconds: float
    part: Fresh
    path: Path


class SegmentProcesses:
    """At most `count` processes, started when they are first needed; those that died are replaced at the next task."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool: ProcessPoolExecutor | None = None
        self._lock = threading.Lock()

    def submit(self, task: SegmentTask) -> Future[SegmentFile]:
        """Start a segment, as soon as a process is free. The future raises what `SegmentReader.export` raises."""
        with self._lock:
            if self._pool is None:
                self._pool = self._start()
            try:
                return self._pool.submit(_export, task)
            except BrokenProcessPool:
                self.kill()
                self._pool.shutdown(wait=False)
                self._pool = self._start()
                return self._pool.submit(_export, task)

    def close(self) -> None:
        """End the processes. No segment is running any more."""
        with self._lock:
            if self._pool is not None:
                self.kill()
                self._pool.shutdown(wait=True, cancel_futures=True)
                self._pool = None

    def kill(self) -> None:
        """End the processes at once, whatever they are at. Futures raise what `result_of` explains.

        With SIGKILL, for they ignore SIGTERM, which is what the standard library ends the others with when one of them has
        died. It would wait for them, and at the end of this process for itself, for ever.
        """
        pool = self._pool
        for process in list((pool._processes or {}).values()) if pool is not None else ():
            process.kill()

    def _start(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            self.count,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_begin,
        )


def result_of(future: Future[SegmentFile]) -> SegmentFile:
    """The segment. A process that was killed is an `ExportError`: the table is tried again."""
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise ExportError("A worker process died", hint="Was it killed for using too much memory?") from error


# What follows runs in the worker processes.

_connections: dict[tuple[Database, str], Connection] = {}
_never = threading.Event()


def _begin() -> None:
    arm()
    # The terminal and systemd signal the whole group; the daemon decides when its processes stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _export(task: SegmentTask) -> SegmentFile:
    try:
        reader = SegmentReader(
            connection=_connection(task.database, "segment"),
            witness=_connection(task.database, "witness"),
            state=task.state,
            compat=task.compat,
            settings=task.settings,
            lock_timeout_seconds=task.lock_timeout_seconds,
            stop=_never,
        )
        return reader.export(file_format(task.format_name).format, task.part, task.path, lambda rows: None)
    finally:
        for key, connection in list(_connections.items()):
            if connection.closed or connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                connection.close()
                del _connections[key]


def _connection(database: Database, purpose: str) -> Connection:
    key = database, purpose
    if key not in _connections:
        _connections[key] = database.connect(purpose)
    return _connections[key]
