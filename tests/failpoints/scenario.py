"""A DataStore in which an export comes by every failpoint: a small table, a large one that worker processes read, one that
lacks its triggers, one that may not be read, and an object that nobody points to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
from psycopg import sql

from datastore_dumper.failpoints import VARIABLE
from datastore_dumper.install import install
from datastore_dumper.storage.base import BytesPart, ObjectHeaders
from tests.support.converged import collect_all, left_in_database, not_fresh, orphans, spools
from tests.support.daemon import SHORT_LEASE, DaemonProcess, Dumper
from tests.support.datastore import create_table, insert, prepare_datastore
from tests.support.installation import ROLES, handle
from tests.support.postgres import PostgresServer, ScratchDatabase
from tests.support.waiting import eventually

FORMATS = ["csv", "csv-bom"]
ROWS = 66_000  # nine buckets: four segments, and more than the 5 MiB that make a part
SECTIONS = {
    "export": {"segment_bytes": 1 << 20, "retry_max_seconds": 1, "formats": FORMATS},
    "lease": SHORT_LEASE,
    "storage": {"link_expiry_seconds": 1, "grace_seconds": 0},
    "look": {"interval_seconds": 0.5, "reconcile_interval_seconds": 1},
}
_GARBAGE = "old/1/old.csv"
_CONVERGE_SECONDS = 90


@contextmanager
def template(server: PostgresServer) -> Iterator[str]:
    """The database as each case begins with it."""
    with server.new_database("failpoints") as name:
        database = ScratchDatabase(server, name)
        with database.connect() as admin:
            prepare_datastore(admin)
            for table in ("small", "big", "secret"):
                create_table(admin, table, {"a": "text"})
            insert(admin, "small", ["a"], [["x"], [None], ['quo"te']])
            insert(admin, "secret", ["a"], [["s"]])
            admin.execute("ALTER TABLE big DISABLE TRIGGER zfulltext")
            admin.execute("INSERT INTO big (a) SELECT repeat('x', 120) || i FROM generate_series(1, %s) i", [ROWS])
            install(handle(database), ROLES)
            # As where the installer may not have any: the daemon gives tables their triggers.
            admin.execute("DROP EVENT TRIGGER datastore_dumper_ddl")
            admin.execute("DROP EVENT TRIGGER datastore_dumper_drop")
        yield name


class Scenario:
    """One case: the daemon dies somewhere, another one comes."""

    def __init__(self, dumper: Dumper, *, published_before: bool) -> None:
        """`published_before`: files are there, and the export reuses and retires them."""
        self._dumper = dumper
        self._locks = ExitStack()
        if published_before:
            assert dumper.once(**SECTIONS) == 0
        with dumper.database.connect() as admin:
            admin.execute("REVOKE SELECT ON secret FROM dumper")
            admin.execute("UPDATE secret SET a = a || '!'")
            # Two segments that follow each other go to worker processes, a single one does not.
            admin.execute("UPDATE big SET a = a || '!' WHERE _id IN (10000, 20000)")
            admin.execute("TRUNCATE small")
            insert(admin, "small", ["a"], [["y"]])
            create_table(admin, "new", {"a": "text"})
            insert(admin, "new", ["a"], [["n"]])
            admin.execute("INSERT INTO datastore_dumper.garbage VALUES (%s, '-infinity')", [_GARBAGE])
        dumper.storage.write(_GARBAGE, [BytesPart(b"old")], ObjectHeaders("text/csv", "old.csv"))

    @contextmanager
    def armed(self, failpoints: str) -> Iterator[DaemonProcess]:
        """A daemon that will come by. A table is locked, so that leases are held long enough to be renewed."""
        self._locks.enter_context(self._lock("small"))
        with DaemonProcess.start(self._dumper.write_config(**SECTIONS), {VARIABLE: failpoints}) as daemon:
            try:
                yield daemon
            finally:
                self.unlock()

    def unlock(self) -> None:
        """Let go of what `armed` locked."""
        self._locks.close()

    def converge(self) -> None:
        """Another daemon mends all of it. Asserts that nothing is lost and nothing is left."""
        dumper = self._dumper
        with dumper.database.connect() as admin:
            admin.execute("GRANT SELECT ON secret TO dumper")
            with dumper.running(**SECTIONS):
                eventually(lambda: not_fresh(admin, FORMATS) == [], timeout=_CONVERGE_SECONDS)
            left_rows = left_in_database(admin)
            assert not left_rows, left_rows
            for table in ("small", "big", "secret", "new"):
                expected = _as_postgres_has_it(admin, table)
                assert dumper.file(table) == expected, table
                assert dumper.file(table, "csv-bom") == b"\xef\xbb\xbf" + expected, table
        collect_all(dumper.database, dumper.storage)
        left = orphans(dumper.database, dumper.storage) + spools(Path(dumper.config().export.spool_directory or "/"))
        assert not left, left

    @contextmanager
    def _lock(self, table: str) -> Iterator[None]:
        with self._dumper.database.connect() as connection, connection.transaction():
            connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(sql.Identifier(table)))
            yield


def _as_postgres_has_it(connection: psycopg.Connection, table: str) -> bytes:
    query = sql.SQL("COPY (SELECT _id, a FROM {} ORDER BY _id) TO STDOUT csv").format(sql.Identifier(table))
    with connection.cursor().copy(query) as copy:
        return b"_id,a\r\n" + b"".join(bytes(data) for data in copy)
