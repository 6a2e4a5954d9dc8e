"""Exports under a snapshot: what comes between must never tear a file, and the export must never keep a lock."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from datastore_dumper import watchdog
from datastore_dumper.database import Connection
from datastore_dumper.errors import ExportError, GaveWayError, TableChangedError
from datastore_dumper.export import ManyRowsError, SegmentReader, TableState, hold_snapshot
from datastore_dumper.formats import Compat, file_format
from datastore_dumper.install import install
from datastore_dumper.plan import Fresh
from datastore_dumper.spool import SegmentFile
from tests.support.datastore import create_table
from tests.support.installation import ROLES, handle
from tests.support.postgres import ScratchDatabase
from tests.support.waiting import eventually

ROWS = 20_000
WHOLE = Fresh(None, None)


class Bench:
    """A table of 20,000 rows, a writer, and an export of it step by step."""

    def __init__(self, database: ScratchDatabase, directory: Path) -> None:
        self.database = database
        self.directory = directory
        self.stop = threading.Event()
        self.writer = database.connect("ckan_write")
        self.holder, self.segment, self.witness = (handle(database, "dumper").connect(p) for p in "abc")
        create_table(self.writer, "t", {"a": "text", "b": "text"})
        self.writer.execute(f"INSERT INTO t (a, b) SELECT 'a' || i, 'b' || i FROM generate_series(1, {ROWS}) i")
        row = self.writer.execute("SELECT 't'::regclass::oid::int").fetchone()
        assert row is not None
        self.relid: int = row[0]

    def export(
        self,
        state: TableState,
        part: Fresh = WHOLE,
        progress: Callable[[int], None] = lambda _: None,
        most_rows: int | None = None,
    ) -> SegmentFile:
        reader = SegmentReader(self.segment, self.witness, state, Compat(), (), 0.3, self.stop)
        return reader.export(
            file_format("csv").format, part, self.directory / f"segment-{part.first}", progress, most_rows
        )

    def close(self) -> None:
        for connection in (self.writer, self.holder, self.segment, self.witness):
            connection.close()


@pytest.fixture
def bench(database: ScratchDatabase, tmp_path: Path) -> Iterator[Bench]:
    install(handle(database), ROLES)
    made = Bench(database, tmp_path)
    yield made
    made.close()


def test_later_commits_are_not_in_the_file_nor_in_what_is_forgotten(bench: Bench) -> None:
    with hold_snapshot(bench.holder, bench.relid) as state:
        bench.writer.execute("UPDATE t SET a = 'late'")
        bench.writer.execute("INSERT INTO t (a) VALUES ('late')")
        exported = bench.export(state)
    assert exported.rows == ROWS
    assert b"late" not in exported.path.read_bytes()
    left = set(bench.witness.execute("SELECT xid::text, bucket FROM datastore_dumper.change").fetchall())
    assert len(left - set(state.changes)) > 0
    assert set(state.changes) < left


def test_ranges_put_together_are_the_whole(bench: Bench) -> None:
    with hold_snapshot(bench.holder, bench.relid) as state:
        whole = bench.export(state)
        parts = [bench.export(state, part) for part in (Fresh(-5, 0), Fresh(1, 1), Fresh(2, 9), Fresh(10, 400_000))]
    assert b"".join(part.path.read_bytes() for part in parts) == whole.path.read_bytes()
    assert sum(part.rows for part in parts) == whole.rows == ROWS
    assert [part.rows for part in parts] == [8191, 8192, ROWS - 16383, 0]


@pytest.mark.parametrize(
    "ddl",
    [
        "TRUNCATE t",
        "BEGIN; TRUNCATE t; INSERT INTO t (a) VALUES ('new'); COMMIT",
        "ALTER TABLE t ALTER COLUMN a TYPE varchar(10)",
        "ALTER TABLE t ALTER COLUMN _id TYPE bigint",
        "ALTER TABLE t RENAME COLUMN b TO c",
        "ALTER TABLE t DROP COLUMN b",
        "ALTER TABLE t ADD COLUMN c text",
        "BEGIN; ALTER TABLE t RENAME a TO x; ALTER TABLE t RENAME b TO a; ALTER TABLE t RENAME x TO b; COMMIT",
        "COMMENT ON COLUMN t.a IS 'other'",
        "ALTER TABLE t RENAME TO u",
        "DROP TABLE t",
        "DROP TABLE t; CREATE TABLE t (_id serial PRIMARY KEY, a text, b text)",
    ],
)
def test_ddl_between_snapshot_and_segment_is_noticed(bench: Bench, ddl: str) -> None:
    with hold_snapshot(bench.holder, bench.relid) as state:
        for statement in ddl.split("; "):
            bench.writer.execute(statement.encode())
        with pytest.raises(TableChangedError):
            bench.export(state)
    assert bench.segment.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def test_truncate_between_filenode_and_snapshot_is_noticed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from datastore_dumper import export

    original = export._filenode

    def filenode_then_truncate(connection: Connection, relid: int) -> int | None:
        found = original(connection, relid)
        bench.writer.execute("TRUNCATE t")
        return found

    monkeypatch.setattr(export, "_filenode", filenode_then_truncate)
    with hold_snapshot(bench.holder, bench.relid) as state, pytest.raises(TableChangedError):
        bench.export(state)


def test_no_more_rows_than_have_room(bench: Bench) -> None:
    """Whatever is done to the table while the snapshot is held."""
    with hold_snapshot(bench.holder, bench.relid) as state:
        bench.writer.execute("DELETE FROM t")
        with bench.database.connect() as admin:
            admin.execute("VACUUM t")
        with pytest.raises(ManyRowsError):
            bench.export(state, most_rows=ROWS - 1)
        assert bench.export(state, most_rows=10 * ROWS).rows == ROWS


def test_the_table_is_locked_during_a_segment_only(bench: Bench) -> None:
    bench.writer.execute("SET lock_timeout = '300ms'")
    with hold_snapshot(bench.holder, bench.relid) as state:
        bench.export(state, Fresh(0, 0))
        bench.writer.execute("BEGIN")
        bench.writer.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        bench.writer.execute("ROLLBACK")

        def try_to_truncate(rows: int) -> None:
            with pytest.raises(psycopg.errors.LockNotAvailable):
                bench.writer.execute("TRUNCATE t")

        bench.export(state, Fresh(1, 1), try_to_truncate)


def test_what_a_segment_sets_does_not_stay(bench: Bench) -> None:
    """JSON calls casts that belong to the owner of a type: what they set for the session must not be there for other tables."""
    with hold_snapshot(bench.holder, bench.relid) as state:
        reader = SegmentReader(bench.segment, bench.witness, state, Compat(), (), 0.3, bench.stop)
        before = bench.segment.execute("SHOW TimeZone").fetchone()
        with reader._locked_snapshot(()):
            bench.segment.execute("SELECT set_config('TimeZone', 'Asia/Tokyo', false)")
        assert bench.segment.execute("SHOW TimeZone").fetchone() == before != ("Asia/Tokyo",)


def test_a_process_that_is_frozen_between_two_statements_gives_way(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its session is idle, with the lock on the table: there is nothing to cancel, so it is ended."""
    monkeypatch.setattr(watchdog, "PATIENCE_SECONDS", 0.3)
    segment = handle(bench.database, "dumper").connect("segment")
    with hold_snapshot(bench.holder, bench.relid) as state, ThreadPoolExecutor(1) as thread, segment:
        reader = SegmentReader(segment, bench.witness, state, Compat(), (), 0.3, bench.stop)
        with reader._locked_snapshot(()):
            assert segment.execute("SHOW idle_in_transaction_session_timeout").fetchone() == ("10s",)
            truncated = thread.submit(bench.writer.execute, "TRUNCATE t")
            with handle(bench.database, "dumper").connect("watchdog") as connection:
                eventually(lambda: (watchdog.give_way(connection), truncated.done())[1])
            truncated.result()


def test_a_lock_that_is_not_to_be_had(bench: Bench) -> None:
    with hold_snapshot(bench.holder, bench.relid) as state, bench.writer.transaction():
        bench.writer.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(GaveWayError, match="locked by somebody else"):
            bench.export(state)


def test_broken_off_the_connection_stays_usable(bench: Bench) -> None:
    class BrokenOffError(Exception):
        pass

    def break_off(rows: int) -> None:
        raise BrokenOffError

    with hold_snapshot(bench.holder, bench.relid) as state:
        with pytest.raises(BrokenOffError):
            bench.export(state, Fresh(0, 0), break_off)
        bench.stop.set()
        with pytest.raises(ExportError, match="the daemon stops"):
            bench.export(state, Fresh(1, 1))
        bench.stop.clear()
        assert bench.export(state, Fresh(2, 2)).rows == ROWS - 16383
    assert bench.segment.execute("SELECT 1").fetchone() == (1,)


def test_a_backend_that_dies_is_an_error_and_no_short_file(bench: Bench) -> None:
    with bench.database.connect() as admin:

        def kill(rows: int) -> None:
            admin.execute("SELECT pg_terminate_backend(%s, 5000)", [bench.segment.info.backend_pid])

        bench.writer.execute("INSERT INTO t (a) SELECT repeat('x', 1000) FROM generate_series(1, 30000)")
        with hold_snapshot(bench.holder, bench.relid) as state, pytest.raises(psycopg.OperationalError):
            bench.export(state, progress=kill)


def test_an_error_in_the_middle_of_a_copy_is_an_error(bench: Bench) -> None:
    """A value that cannot be shown: the rows before it have been sent already."""
    with bench.database.connect() as admin:
        admin.execute("CREATE FUNCTION fails(text) RETURNS text LANGUAGE sql AS 'SELECT (1 / (length($1) - 3))::text'")
        admin.execute("CREATE VIEW v AS SELECT _id, fails(a) AS a FROM t")
        connection = bench.segment
        from datastore_dumper.export import copy_out

        admin.execute("GRANT SELECT ON v TO dumper")
        with pytest.raises(psycopg.errors.DivisionByZero):
            list(copy_out(connection, "COPY (SELECT * FROM public.v ORDER BY _id DESC) TO STDOUT (FORMAT csv)"))
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_settings_of_ckans_read_role_show_in_the_bytes(bench: Bench) -> None:
    bench.writer.execute("CREATE TABLE times (_id int NOT NULL, t timestamptz, d date, i interval, f float8, b bytea)")
    bench.writer.execute(
        "INSERT INTO times VALUES (1, '2024-01-02 03:04:05+00', '2024-01-02', '1 day 2 hours', 0.1::float4, 'ab')"
    )
    row = bench.writer.execute("SELECT 'times'::regclass::oid::int").fetchone()
    assert row is not None
    settings = (
        ("timezone", "Asia/Tokyo"),
        ("datestyle", "SQL, DMY"),
        ("intervalstyle", "iso_8601"),
        ("bytea_output", "escape"),
    )
    with hold_snapshot(bench.holder, row[0]) as state:
        reader = SegmentReader(bench.segment, bench.witness, state, Compat(), settings, 1, bench.stop)
        exported = reader.export(
            file_format("csv").format, Fresh(None, None), bench.directory / "times", lambda _: None
        )
    # The style is ISO whatever the role says: psycopg2 sees to that for CKAN.
    assert exported.path.read_bytes() == b"1,2024-01-02 12:04:05+09,2024-01-02,P1DT2H,0.10000000149011612,ab\n"


@pytest.mark.parametrize(
    ("ids", "rows", "expected"),
    [
        ([], 10, []),
        ([1], 10, [0]),
        (range(1, 8192 * 6), 8192 * 2, [0, 2, 4]),
        ([*range(1, 8192 * 3), 2**31 - 1], 8192, [0, 1, 2, 262143]),
        ([-20000, -5, 5, 9000], 1, [-3, -1, 0, 1]),
        ([5, 8192 * 1000], 100, [0]),
        ([8192 * n for n in range(40)], 10, [0, 10, 20, 30]),
    ],
)
def test_boundaries(bench: Bench, ids: Sequence[int], rows: int, expected: list[int]) -> None:
    bench.writer.execute("TRUNCATE t")
    bench.writer.execute("INSERT INTO t (_id) SELECT unnest(%s::bigint[])", [list(ids)])
    with hold_snapshot(bench.holder, bench.relid) as state:
        reader = SegmentReader(bench.segment, bench.witness, state, Compat(), (), 1, bench.stop)
        found = reader.boundaries(None, None, rows, 100)
        assert found == expected
        assert reader.boundaries(None, None, rows, 2) == expected[:2]
        if expected:
            assert reader.boundaries(expected[-1], None, rows, 100) == expected[-1:]
            assert reader.boundaries(None, expected[0], rows, 100) == expected[:1]


@pytest.mark.parametrize(
    ("ids", "rows", "expected"),
    [
        ([], 10, []),
        ([1], 10, [0]),
        (range(1, 8192 * 6), 8192 * 2, [0, 2, 4]),
        (range(1, 8192 * 6), 8192 * 3 - 1, [0, 2, 4]),
        ([-20000, -5, 5, 9000], 1, [-3, -1, 0, 1]),
        ([5, 8192 * 1000, 8192 * 1001], 8192 * 2, [0, 1000]),
        ([-(2**63), 2**63 - 8193, 2**63 - 1], 8192, [-(2**50), 2**50 - 2, 2**50 - 1]),
    ],
)
def test_boundaries_by_ids(bench: Bench, ids: Sequence[int], rows: int, expected: list[int]) -> None:
    bench.writer.execute("TRUNCATE t")
    bench.writer.execute("ALTER TABLE t ALTER COLUMN _id TYPE bigint")
    bench.writer.execute("INSERT INTO t (_id) SELECT unnest(%s::bigint[])", [list(ids)])
    with hold_snapshot(bench.holder, bench.relid) as state:
        reader = SegmentReader(bench.segment, bench.witness, state, Compat(), (), 1, bench.stop)
        assert reader.boundaries(None, None, rows, 100, by_ids=True) == expected
        assert reader.boundaries(None, None, rows, 2, by_ids=True) == expected[:2]
        if expected:
            assert reader.boundaries(None, expected[0], rows, 100, by_ids=True) == expected[:1]


def test_boundaries_are_found_without_reading_the_rest(bench: Bench) -> None:
    """A cast keeps the name of its column, and ORDER BY means the cast then: that sorts the whole table."""
    bench.writer.execute("ANALYZE t")
    before = _rows_read(bench)
    with hold_snapshot(bench.holder, bench.relid) as state:
        reader = SegmentReader(bench.segment, bench.witness, state, Compat(), (), 1, bench.stop)
        assert reader.boundaries(None, None, 100, 2) == [0, 1]
    bench.segment.execute("SELECT pg_stat_force_next_flush()")
    assert 100 <= eventually(lambda: _rows_read(bench) - before) < 1000


def _rows_read(bench: Bench) -> int:
    row = bench.writer.execute(
        "SELECT seq_tup_read + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes AS i WHERE i.relid = t.relid) "
        "FROM pg_stat_user_tables AS t WHERE relid = %s",
        [bench.relid],
    ).fetchone()
    assert row is not None
    return int(row[0])
