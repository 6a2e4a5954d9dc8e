"""Several daemons on one database: they share the work, take over from one that died, and one that was frozen harms nothing."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path

import psycopg
import pytest

from datastore_dumper.failpoints import VARIABLE
from datastore_dumper.install import install
from datastore_dumper.lease import Leases
from tests.support.converged import collect_all, left_in_database, orphans
from tests.support.daemon import SHORT_LEASE, Dumper
from tests.support.datastore import create_table
from tests.support.installation import ROLES, handle
from tests.support.waiting import eventually

TABLES = 30
# A daemon that loses the race for a table, or whose session is ended, must find its way back without long pauses.
RETRY = {"retry_initial_seconds": 0.1, "retry_max_seconds": 0.5}


@pytest.fixture
def dumper(dumper: Dumper) -> Dumper:
    dumper.settings["lease"] = SHORT_LEASE
    return dumper


@pytest.fixture
def writer(dumper: Dumper) -> Iterator[psycopg.Connection]:
    """A DataStore with a table t of one row, and a connection of CKAN's write role."""
    install(handle(dumper.database), ROLES)
    with dumper.database.connect("ckan_write") as connection:
        create_table(connection, "t", {"a": "text"})
        connection.execute("INSERT INTO t (a) VALUES ('first')")
        yield connection


class Pause:
    """A failpoint at which the daemon waits until it is released."""

    def __init__(self, directory: Path, name: str) -> None:
        self.env = {VARIABLE: f"{name}=pause:{directory}"}
        self._mark = directory / name.rpartition("/")[2]

    def wait(self) -> None:
        """Until the daemon is there."""
        eventually(self._mark.exists)

    def release(self) -> None:
        self._mark.with_name(f"{self._mark.name}.release").touch()


def assert_clean(dumper: Dumper) -> None:
    """Once no daemon runs any more."""
    with dumper.database.connect() as admin:
        assert left_in_database(admin) == {}
    collect_all(dumper.database, dumper.storage)
    assert orphans(dumper.database, dumper.storage) == []


@pytest.mark.parametrize(
    "place", ["after_claim", "after_snapshot", "after_complete", "before_publish", "within_publish"]
)
def test_a_daemon_frozen_beyond_its_lease_harms_nothing_when_it_wakes_up(
    dumper: Dumper, writer, tmp_path: Path, place: str
) -> None:
    pause = Pause(tmp_path, place)
    with dumper.running(pause.env, export=RETRY) as frozen:
        pause.wait()
        frozen.process.send_signal(signal.SIGSTOP)
        writer.execute("UPDATE t SET a = 'second'")
        with dumper.running(export=RETRY) as other:
            other.wait_for("published", resource_id="t")
            assert dumper.file("t") == b"_id,a\r\n1,second\n"
            pause.release()
            frozen.process.send_signal(signal.SIGCONT)
            other.terminate()
        # All it may do now is notice, and go on with what is due.
        eventually(lambda: frozen.all("lease_lost") or frozen.all("export_failed"))
        assert not frozen.all("published")
        assert dumper.file("t") == b"_id,a\r\n1,second\n"
        assert dumper.is_fresh()
        writer.execute("UPDATE t SET a = 'third'")
        frozen.wait_for("published", resource_id="t")
        assert dumper.file("t") == b"_id,a\r\n1,third\n"
    assert_clean(dumper)


def test_a_worker_that_pauses_before_publishing_while_its_daemon_lives_is_replaced(
    dumper: Dumper, writer, tmp_path: Path
) -> None:
    """From there on the lease is not renewed any more: nobody can tell a slow publication from a dead one."""
    pause = Pause(tmp_path, "before_publish")
    with dumper.running(pause.env) as slow:
        pause.wait()
        writer.execute("UPDATE t SET a = 'second'")
        with dumper.running() as other:
            other.wait_for("published", resource_id="t")
            pause.release()
            slow.wait_for("lease_lost", resource_id="t")
        assert dumper.file("t") == b"_id,a\r\n1,second\n"
        assert not slow.all("published")
    assert_clean(dumper)


@pytest.mark.parametrize("others", [0, 1])
def test_a_daemon_frozen_within_a_copy_keeps_nobody_from_truncating(
    dumper: Dumper, writer, tmp_path: Path, others: int
) -> None:
    """Its COPY cannot be cancelled while Postgres waits for it to read. Another daemon ends the session; alone, Postgres
    does."""
    writer.execute("ALTER TABLE t DISABLE TRIGGER zfulltext")
    # Much more than the buffers between Postgres and the daemon hold, and one segment.
    writer.execute("INSERT INTO t (a) SELECT repeat('x', 1000) FROM generate_series(1, 40000)")
    pause = Pause(tmp_path, "within_segment")
    export = {**RETRY, "segment_bytes": 1 << 30}
    with dumper.running(pause.env, export=export) as frozen:
        pause.wait()
        frozen.process.send_signal(signal.SIGSTOP)
        try:
            with dumper.running(export=export) if others else nullcontext():
                writer.execute("SET lock_timeout = '15s'")  # xloader's
                writer.execute("TRUNCATE t")
        finally:
            pause.release()
            frozen.process.send_signal(signal.SIGCONT)
        eventually(lambda: dumper.is_fresh())
        assert dumper.file("t") == b"_id,a\r\n"


def test_a_daemon_frozen_while_it_reconciles_is_in_no_writers_way(dumper: Dumper, writer, tmp_path: Path) -> None:
    """It holds rows of ours that are about tables which were renamed, altered and dropped."""
    for name in ("renamed", "dropped"):
        create_table(writer, name, {"a": "text"})
    assert dumper.once() == 0
    writer.execute("ALTER TABLE renamed RENAME TO other")
    writer.execute("DROP TABLE dropped")
    pause = Pause(tmp_path, "within_reconcile")
    # An export of its own would be in the way, which is another test's.
    with dumper.running(pause.env, debounce={"quiet_seconds": 10, "max_delay_seconds": 60}) as frozen:
        pause.wait()
        frozen.process.send_signal(signal.SIGSTOP)
        try:
            writer.execute("SET lock_timeout = '1s'")
            for table in ("t", "other"):
                writer.execute(f"INSERT INTO {table} (a) VALUES ('x')")
                writer.execute(f"UPDATE {table} SET a = 'y'")
                writer.execute(f"ALTER TABLE {table} ADD COLUMN b text")
                writer.execute(f"TRUNCATE {table}")
            writer.execute("DROP TABLE other")
            create_table(writer, "other", {"a": "text"})
            writer.execute("INSERT INTO other (a) VALUES ('z')")
        finally:
            pause.release()
            frozen.process.send_signal(signal.SIGCONT)
        frozen.wait_for("published", resource_id="other", rows=1)
        assert dumper.file("other") == b"_id,a\r\n1,z\n"


def test_a_dead_daemons_table_is_taken_over_when_its_lease_has_ended(dumper: Dumper, writer, tmp_path: Path) -> None:
    pause = Pause(tmp_path, "after_claim")
    with dumper.running() as other:
        other.wait_for("published", resource_id="t")
        other.process.send_signal(signal.SIGSTOP)
        with dumper.running(pause.env) as first:
            writer.execute("UPDATE t SET a = 'second'")
            pause.wait()
            first.kill()
        with dumper.database.connect() as admin:
            (owner,) = admin.execute("SELECT lease_owner FROM datastore_dumper.resource").fetchone() or (None,)
            assert owner is not None
        other.process.send_signal(signal.SIGCONT)
        other.wait_for("published", 2, resource_id="t")
        assert dumper.file("t") == b"_id,a\r\n1,second\n"
    assert_clean(dumper)


def test_a_daemon_takes_no_more_than_it_can_export(dumper: Dumper, writer, tmp_path: Path) -> None:
    """So that whoever comes has something to do: with one daemon stuck at all its places, another does the rest."""
    for number in range(TABLES):
        create_table(writer, f"t{number}", {"a": "text"})
    pause = Pause(tmp_path, "after_claim")
    with dumper.running(pause.env, export={"concurrency": 2}, lease={"ttl_seconds": 120}) as stuck:
        pause.wait()
        eventually(lambda: _leased(dumper) == 2)
        with dumper.running() as other:
            eventually(
                lambda: len({event["resource_id"] for event in other.all("published")}) == TABLES - 1, timeout=90
            )
            assert _leased(dumper) == 2
        pause.release()
        eventually(lambda: len(stuck.all("published")) == 2)


def test_each_daemon_adds_its_places(dumper: Dumper, writer, tmp_path: Path) -> None:
    """As many tables are exported at once as all daemons together have places, and each daemon fills its own."""
    for number in range(TABLES):
        create_table(writer, f"t{number}", {"a": "text"})
    dumper.settings["lease"] = {"ttl_seconds": 120}  # paused there, they are not renewed
    pauses = []
    with ExitStack() as stack:
        for count in range(1, 4):
            directory = tmp_path / str(count)
            directory.mkdir()
            pauses.append(Pause(directory, "after_claim"))
            stack.enter_context(dumper.running(pauses[-1].env, export={"concurrency": 2}))
            eventually(lambda count=count: _leased(dumper) == 2 * count)
        with dumper.database.connect() as admin:
            assert (
                admin.execute(
                    "SELECT count(*) FROM datastore_dumper.resource WHERE lease_until > clock_timestamp() GROUP BY lease_owner"
                ).fetchall()
                == [(2,)] * 3
            )
        for pause in pauses:
            pause.release()
        eventually(lambda: all(dumper.is_fresh(f"t{number}") for number in range(TABLES)))


def test_what_somebody_has_published_since_is_not_exported_again(dumper: Dumper, writer) -> None:
    """Another daemon may find it due by a look before that."""
    assert dumper.once() == 0
    with handle(dumper.database, "dumper").connect("test") as connection:
        (relid,) = writer.execute("SELECT 't'::regclass::oid::int").fetchone() or (0,)
        assert Leases("late", 60).claim(connection, relid) is None
        writer.execute("UPDATE t SET a = 'second'")
        assert Leases("in time", 60).claim(connection, relid) is not None


def test_daemons_share_the_work(dumper: Dumper, writer) -> None:
    for number in range(TABLES):
        create_table(writer, f"t{number}", {"a": "text"})
    with dumper.running() as one, dumper.running() as other:
        for round_ in range(1, 20):
            for number in range(TABLES):
                writer.execute(f"INSERT INTO t{number} (a) VALUES ('{round_}')")
            eventually(lambda: all(dumper.is_fresh(f"t{number}") for number in range(TABLES)))
            counts = [len(daemon.all("published")) for daemon in (one, other)]
            if min(counts) * 4 > max(counts):
                break
        else:
            pytest.fail(f"one does nearly all of it: {counts}")
        assert one.all("export_crashed") == other.all("export_crashed") == []


def _leased(dumper: Dumper) -> int:
    with dumper.database.connect() as admin:
        row = admin.execute(
            "SELECT count(*) FROM datastore_dumper.resource WHERE lease_until > clock_timestamp()"
        ).fetchone()
        assert row is not None
        return int(row[0])
