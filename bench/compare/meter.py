"""What making a file costs whom: time, CPU, memory, and what Postgres did for it (Linux)."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bench.usage import family, memory
from tests.support.datastore import WRITE_ROLE
from tests.support.postgres import Connection, PostgresServer

_EVERY_SECONDS = 0.05
_TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")
# Of the statements of everybody but the writer and this benchmark. COPY and FETCH count from the first row to the last,
# so a client that is slow to take rows makes them long.
_STATEMENTS = """
SELECT coalesce(sum(total_plan_time + total_exec_time), 0) / 1000,
    coalesce(sum(shared_blks_hit + shared_blks_read), 0)::bigint * current_setting('block_size')::bigint
FROM pg_stat_statements AS s
JOIN pg_roles AS r ON r.oid = s.userid
JOIN pg_database AS d ON d.oid = s.dbid
WHERE d.datname = ANY (%s) AND r.rolname <> %s AND r.rolname <> current_user
"""


@dataclass(frozen=True)
class Made:
    """A file is up to date: how long that took, what the storage was sent, and whether the content was new to it."""

    seconds: float
    uploaded_bytes: int = 0


@dataclass(frozen=True)
class Cost:
    """Of one file. CPU is user and system time. The writer's own is in none of it."""

    seconds: float
    client_cpu_seconds: float
    postgres_cpu_seconds: float
    storage_cpu_seconds: float
    postgres_seconds: float
    """Plan and execution, by pg_stat_statements."""
    block_bytes: int
    """Blocks that Postgres looked at, in its cache or not, by pg_stat_statements."""
    memory_bytes: int
    """Of the processes that make the file, at its peak; what they share counts once."""
    uploaded_bytes: int


@dataclass(frozen=True)
class Meter:
    """Looks at one Postgres and one storage. `storage` is a process id, if the storage is a process of ours."""

    server: PostgresServer
    postmaster: int
    storage: int | None

    def measure(
        self,
        roots: Sequence[int],
        databases: Sequence[str],
        action: Callable[[], Made],
        writer: Connection | None = None,
    ) -> Cost:
        """What it takes these processes, with all that they start, to act on these databases."""
        backend = [writer.info.backend_pid] if writer else []
        with self.server.connect() as connection, _Peak(roots) as peak:
            connection.execute("SELECT pg_stat_statements_reset()")
            before = [self._cpu(each) for each in (roots, [self.postmaster], self._storages())]
            own = sum(map(_own_cpu_seconds, backend))
            made = action()
            own = sum(map(_own_cpu_seconds, backend)) - own
            client, postgres, storage = (
                self._cpu(each) - was
                for each, was in zip((roots, [self.postmaster], self._storages()), before, strict=True)
            )
            row = connection.execute(_STATEMENTS, [list(databases), WRITE_ROLE]).fetchone()
        assert row is not None
        return Cost(
            seconds=made.seconds,
            client_cpu_seconds=client,
            postgres_cpu_seconds=max(postgres - own, 0.0),
            storage_cpu_seconds=storage,
            postgres_seconds=float(row[0]),
            block_bytes=int(row[1]),
            memory_bytes=peak.bytes,
            uploaded_bytes=made.uploaded_bytes,
        )

    def _storages(self) -> list[int]:
        return [] if self.storage is None else [self.storage]

    def _cpu(self, roots: Sequence[int]) -> float:
        return sum(cpu_seconds(root) for root in roots)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and all that descend from it, those that have ended, too, so long as each was
    waited for by its parent (proc(5), stat)."""
    return sum(sum(_times(each)) for each in family(pid))


def timed(action: Callable[[], int]) -> Made:
    """Run what says how many bytes it sent to the storage."""
    started = time.perf_counter()
    uploaded = action()
    return Made(time.perf_counter() - started, uploaded)


def _own_cpu_seconds(pid: int) -> float:
    return sum(_times(pid)[:2])


def _times(pid: int) -> list[float]:
    """utime, stime, cutime, cstime; none for a process that is gone."""
    with suppress(OSError):
        # The name of the program, in parentheses, may hold spaces.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return [int(ticks) * _TICK_SECONDS for ticks in fields[11:15]]
    return []


class _Peak:
    """The most memory that processes and their descendants take, looked at many times a second."""

    def __init__(self, roots: Sequence[int]) -> None:
        self.bytes = 0
        self._roots = roots
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> _Peak:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            self.bytes = max(self.bytes, sum(memory(each)[1] for root in self._roots for each in family(root)))
            if self._stop.wait(_EVERY_SECONDS):
                return
