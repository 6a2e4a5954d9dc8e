"""What the triggers write down, and that they never get in a writer's way."""

from __future__ import annotations

import threading

import psycopg
import pytest

from datastore_dumper.install import install
from tests.support.datastore import create_table
from tests.support.installation import ROLES, handle
from tests.support.postgres import ScratchDatabase
from tests.support.waiting import eventually

WHOLE = -1
SCATTERED = [number >> 13 for number in range(0, 2_000_000_001, 400_000_000)]


@pytest.fixture
def writer(database: ScratchDatabase):
    install(handle(database), ROLES)
    with database.connect("ckan_write") as connection:
        create_table(connection, "t", {"a": "text"})
        forget(database)
        yield connection


def forget(database: ScratchDatabase) -> None:
    with database.connect() as admin:
        admin.execute("DELETE FROM datastore_dumper.change")


def buckets(database: ScratchDatabase) -> list[int]:
    """The buckets of all committed change rows, one entry for each transaction."""
    with database.connect() as admin:
        return [
            b for (b,) in admin.execute("SELECT bucket FROM datastore_dumper.change ORDER BY bucket, xid").fetchall()
        ]


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("INSERT INTO t (_id, a) VALUES (1, 'x')", [0]),
        ("INSERT INTO t (_id, a) SELECT i, 'x' FROM generate_series(8190, 16385) i", [0, 1, 2]),
        # A dense run is written down from end to end, the gap in it, too; scattered rows are not.
        (
            "INSERT INTO t (_id, a) SELECT i, 'x' FROM generate_series(0, 40959) i WHERE i < 16384 OR i > 24575",
            [0, 1, 2, 3, 4],
        ),
        ("INSERT INTO t (_id, a) SELECT i, 'x' FROM generate_series(0, 2000000000, 400000000) i", SCATTERED),
        ("INSERT INTO t (_id, a) VALUES (-1, 'x'), (1, 'x')", [WHOLE, 0]),
        ("INSERT INTO t (a) SELECT 'x' WHERE false", []),
        ("UPDATE t SET a = 'y' WHERE _id = 20000", [2]),
        ("UPDATE t SET a = 'y' WHERE false", []),
        ("UPDATE t SET _id = 1000000 WHERE _id = 20000", [2, 122]),
        ("DELETE FROM t WHERE _id = 20000", [2]),
        ("DELETE FROM t WHERE false", []),
        ("WITH gone AS (DELETE FROM t WHERE _id = 20000 RETURNING *) SELECT count(*) FROM gone", [2]),
        ("INSERT INTO t (_id, a) VALUES (20000, 'z') ON CONFLICT (_id) DO UPDATE SET a = excluded.a", [2]),
        ("INSERT INTO t (_id, a) VALUES (20000, 'z') ON CONFLICT DO NOTHING", []),
        ("INSERT INTO t (_id, a) VALUES (-8193, 'x')", [-2]),
        ("TRUNCATE t RESTART IDENTITY", [WHOLE]),
        ("ALTER TABLE t ADD COLUMN b text", [WHOLE]),
        ("COMMENT ON COLUMN t.a IS 'x'", [WHOLE]),
        ("DROP TABLE t", [WHOLE]),
        ("CREATE INDEX ON t (a)", []),
        ("SELECT * FROM t", []),
    ],
)
def test_buckets_of_a_statement(writer, database: ScratchDatabase, statement: str, expected: list[int]) -> None:
    writer.execute("INSERT INTO t (_id, a) VALUES (20000, 'x')")
    forget(database)
    writer.execute(statement)
    assert buckets(database) == expected


def test_copy(writer, database: ScratchDatabase) -> None:
    with writer.cursor().copy("COPY t (_id, a) FROM STDIN") as copy:
        for number in range(10_000):
            copy.write_row((number, "x"))
    assert buckets(database) == [0, 1]


def test_copy_freeze_after_truncate(writer, database: ScratchDatabase) -> None:
    with writer.transaction():
        writer.execute("TRUNCATE t")
        with writer.cursor().copy("COPY t (_id, a) FROM STDIN WITH (FORMAT csv, FREEZE 1)") as copy:
            copy.write("1,x\n")
    assert buckets(database) == [WHOLE, 0]


def test_one_row_for_a_transaction_and_bucket(writer, database: ScratchDatabase) -> None:
    with writer.transaction():
        for _ in range(50):
            writer.execute("INSERT INTO t (a) VALUES ('x')")
    writer.execute("INSERT INTO t (a) VALUES ('x')")
    assert buckets(database) == [0, 0]


def test_savepoints_and_rollback(writer, database: ScratchDatabase) -> None:
    with writer.transaction():
        with writer.transaction():
            writer.execute("INSERT INTO t (_id, a) VALUES (1, 'x')")
            writer.execute("INSERT INTO t (_id, a) VALUES (100000, 'x')")
            raise psycopg.Rollback
        writer.execute("INSERT INTO t (_id, a) VALUES (1, 'x')")
    assert buckets(database) == [0]
    with writer.transaction():
        writer.execute("TRUNCATE t")
        raise psycopg.Rollback
    assert buckets(database) == [0]


def test_replica_mode_is_recorded_too(writer, database: ScratchDatabase) -> None:
    with database.connect() as restore:
        restore.execute("SET session_replication_role = replica")
        restore.execute("INSERT INTO t (a) VALUES ('x')")
    assert buckets(database) == [0]


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
def test_concurrent_writers_never_wait_for_each_other(writer, database: ScratchDatabase, level: str) -> None:
    """Both ring, both record; the second commits while the first is still open."""
    with database.connect("ckan_write") as first, database.connect("ckan_write") as second:
        for connection in (first, second):
            connection.execute(f"SET default_transaction_isolation = '{level.lower()}'")
            connection.execute("SET statement_timeout = '5s'")
        with first.transaction():
            first.execute("INSERT INTO t (a) VALUES ('x')")
            with second.transaction():
                second.execute("INSERT INTO t (a) VALUES ('y')")
            first.execute("INSERT INTO t (a) VALUES ('z')")
    assert len(buckets(database)) == 2


def test_a_burst_rings_a_few_times_only(writer, database: ScratchDatabase) -> None:
    rings = 0
    # Of sessions that have not rung yet. Each remembers for a while that somebody did.
    with (
        database.connect() as listener,
        database.connect("ckan_write") as one,
        database.connect("ckan_write") as other,
    ):
        listener.execute("LISTEN datastore_dumper")
        listener.execute("UPDATE datastore_dumper.doorbell SET rang_at = '-infinity'")
        started = listener.execute("SELECT clock_timestamp()").fetchone()
        for _ in range(200):
            one.execute("INSERT INTO t (a) VALUES ('x')")
            other.execute("UPDATE t SET a = 'y' WHERE _id = 1")
        ended = listener.execute("SELECT clock_timestamp()").fetchone()
        assert started is not None
        assert ended is not None
        for notification in listener.notifies(timeout=0.5):
            assert notification.payload == ""
            rings += 1
        assert 1 <= rings <= (ended[0] - started[0]).total_seconds() / 0.25 + 1


def test_a_session_that_was_silent_rings_again(writer, database: ScratchDatabase) -> None:
    with database.connect() as listener:
        listener.execute("LISTEN datastore_dumper")

        def heard() -> bool:  # within the time that it remembers, it is silent
            writer.execute("INSERT INTO t (a) VALUES ('x')")
            return bool(list(listener.notifies(timeout=0.1, stop_after=1)))

        for _ in range(3):
            assert eventually(heard)


@pytest.mark.parametrize("value", ["", "infinity", "nonsense", "9999-01-01 00:00:00+00", "\u00e9"])
def test_what_a_session_says_of_the_bell_fails_no_write(writer, database: ScratchDatabase, value: str) -> None:
    """It may keep it silent for itself: the daemon looks all the same."""
    writer.execute("SELECT set_config('datastore_dumper.quiet_until', %s, false)", [value])
    writer.execute("INSERT INTO t (a) VALUES ('x')")
    writer.execute("UPDATE t SET a = 'y'")
    writer.execute("TRUNCATE t")
    assert buckets(database) == [WHOLE, 0, 0]


@pytest.mark.parametrize("rows", [1, 8, 9, 15, 16, 17, 18])
def test_few_rows_and_many(writer, database: ScratchDatabase, rows: int) -> None:
    """Few are looked at one by one, for UPDATE both sides of each. The last row is in a bucket of its own."""
    writer.execute("INSERT INTO t (_id, a) SELECT i, 'x' FROM generate_series(1, %s) AS i", [rows - 1])
    writer.execute("INSERT INTO t (_id, a) VALUES (50000, 'x')")
    alone = [0, 6] if rows > 1 else [6]
    for statement in (
        "UPDATE t SET a = 'y'",
        "CREATE TABLE kept AS SELECT * FROM t; DELETE FROM t",
        "INSERT INTO t SELECT * FROM kept",
    ):
        forget(database)
        with writer.transaction():
            writer.execute(statement)
        assert [bucket for bucket in buckets(database) if bucket != WHOLE] == alone, statement


def test_notify_can_be_switched_off_for_two_phase_commit(writer, database: ScratchDatabase) -> None:
    with database.connect() as listener:
        listener.execute("LISTEN datastore_dumper")
        writer.execute("SET datastore_dumper.notify = off")
        writer.execute("INSERT INTO t (a) VALUES ('x')")
        assert list(listener.notifies(timeout=0.3)) == []
    assert buckets(database) == [0]


def test_an_id_that_is_no_number_any_more_does_not_fail_the_write(writer, database: ScratchDatabase) -> None:
    writer.execute("INSERT INTO t (_id, a) VALUES (1, 'x')")
    writer.execute("ALTER TABLE t ALTER COLUMN _id DROP DEFAULT, ALTER COLUMN _id TYPE text")
    forget(database)
    writer.execute("INSERT INTO t (_id, a) VALUES ('not a number', 'x')")
    writer.execute("UPDATE t SET a = 'y'")
    writer.execute("ALTER TABLE t RENAME COLUMN _id TO other")
    writer.execute("DELETE FROM t")
    assert set(buckets(database)) == {WHOLE}
    assert len(buckets(database)) >= 3


def test_an_id_may_be_null(writer, database: ScratchDatabase) -> None:
    writer.execute("ALTER TABLE t DROP CONSTRAINT t_pkey, ALTER COLUMN _id DROP NOT NULL")
    forget(database)
    writer.execute("INSERT INTO t (_id, a) VALUES (NULL, 'x')")
    assert buckets(database) == [WHOLE]


def test_a_writer_without_rights_on_the_schema_writes(writer) -> None:
    writer.execute("INSERT INTO t (a) VALUES ('x')")
    for forbidden in (
        "SELECT * FROM datastore_dumper.change",
        "INSERT INTO datastore_dumper.change VALUES (1, '1', 1)",
        "SELECT datastore_dumper.attach(1)",
        "SELECT datastore_dumper.record_change(1, '{1}')",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            writer.execute(forbidden)


def test_shadowed_names_do_not_reach_the_functions(writer, database: ScratchDatabase) -> None:
    """A writer puts operators, functions and tables of its own first in its search path; ours do not see them."""
    writer.execute("CREATE SCHEMA evil AUTHORIZATION ckan_write") if _may_create_schema(writer) else None
    writer.execute("CREATE TEMP TABLE change (relid oid, xid xid8, bucket bigint)")
    writer.execute("CREATE TEMP TABLE touched_rows (_id int)")
    writer.execute(
        "CREATE FUNCTION pg_temp.clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'hijacked as %', current_user; END $$"
    )
    writer.execute("SET search_path = pg_temp, public, pg_catalog")
    writer.execute("INSERT INTO public.t (a) VALUES ('x')")
    assert writer.execute("SELECT count(*) FROM pg_temp.change").fetchone() == (0,)
    assert buckets(database) == [0]


def _may_create_schema(connection) -> bool:
    row = connection.execute("SELECT has_database_privilege(current_database(), 'CREATE')").fetchone()
    return bool(row and row[0])


def test_a_doorbell_held_by_a_long_transaction_stops_nobody(writer, database: ScratchDatabase) -> None:
    with database.connect() as holder, holder.transaction():
        holder.execute("SELECT FROM datastore_dumper.doorbell FOR UPDATE")
        done = threading.Event()

        def write() -> None:
            with database.connect("ckan_write") as other:
                other.execute("INSERT INTO t (a) VALUES ('x')")
            done.set()

        thread = threading.Thread(target=write)
        thread.start()
        assert done.wait(10)
        thread.join()
    assert buckets(database) == [0]
