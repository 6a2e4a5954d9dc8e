"""Exports that read a real streaming standby: what it must show before, and what happens when it does not or is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from datastore_dumper.checks import postgres as checks
from datastore_dumper.checks.results import Result, Subject
from datastore_dumper.cli.options import database_of
from datastore_dumper.config import load, load_config
from datastore_dumper.database import Connection, Database
from datastore_dumper.errors import EXIT_UNAVAILABLE
from datastore_dumper.export import hold_snapshot
from datastore_dumper.install import install
from datastore_dumper.standby import StandbyAheadError, require_shown_by_primary
from tests.support.daemon import DaemonProcess, Dumper
from tests.support.datastore import create_table
from tests.support.installation import ROLES, handle
from tests.support.pgbouncer import pgbouncer_to
from tests.support.postgres import ScratchDatabase
from tests.support.standby import StandbyServer
from tests.support.waiting import eventually

ROWS = 150_000
SEGMENTS = {"segment_bytes": 256 * 1024, "workers": 2}


@pytest.fixture
def database(replicated_database: ScratchDatabase) -> ScratchDatabase:
    """The `dumper` of these tests is one for the primary."""
    return replicated_database


@pytest.fixture
def writer(dumper: Dumper) -> Iterator[Connection]:
    """A connection of CKAN's write role to a DataStore with a table t of three rows."""
    install(handle(dumper.database), ROLES)
    with dumper.database.connect("ckan_write") as connection:
        create_table(connection, "t", {"a": "text"})
        connection.execute("INSERT INTO t (a) VALUES ('x'), (NULL), ('quo\"te')")
        yield connection


@pytest.fixture
def standby(dumper: Dumper, writer: Connection, standby_server: StandbyServer) -> StandbyServer:
    """A standby that has caught up, and that the dumper's configuration names."""
    standby_server.caught_up(writer)
    dumper.settings["database"]["replica_dsn"] = standby_server.dsn(dumper.database.name, "dumper")
    dumper.settings["database"]["replica_wait_seconds"] = 60  # however long the replay of a large INSERT takes
    return standby_server


def expected(connection: Connection) -> bytes:
    with connection.cursor().copy("COPY (SELECT _id, a FROM t ORDER BY _id) TO STDOUT csv") as copy:
        return b"_id,a\r\n" + b"".join(bytes(data) for data in copy)


def fill(writer: Connection) -> None:
    """About nine segments."""
    writer.execute("ALTER TABLE t DISABLE TRIGGER zfulltext")
    writer.execute("INSERT INTO t (a) SELECT 'row ' || i FROM generate_series(1, %s) i", [ROWS])


def status(dumper: Dumper) -> tuple[Any, ...]:
    with dumper.database.connect() as admin:
        row = admin.execute(
            "SELECT rows, lsn, timeline, generated_at FROM datastore_dumper.dump_status WHERE format = 'csv'"
        ).fetchone()
    assert row is not None
    return row


def has_session(standby: StandbyServer, dumper: Dumper, purpose: str, state: str) -> bool:
    with standby.connect(dumper.database.name) as admin:
        found = admin.execute(
            "SELECT FROM pg_stat_activity WHERE datname = current_database() AND state = %s AND application_name = %s "
            "AND (state <> 'active' OR query LIKE 'COPY%%')",
            [state, f"datastore-dumper {purpose}"],
        ).fetchone()
        return found is not None


def segment_is_running(standby: StandbyServer, dumper: Dumper) -> bool:
    return has_session(standby, dumper, "segment", "active")


def holds_snapshot(standby: StandbyServer, dumper: Dumper) -> bool:
    """Whether an export from the standby is under way."""
    return has_session(standby, dumper, "holder", "idle in transaction")


@contextmanager
def table_locked(dumper: Dumper) -> Iterator[None]:
    """Nobody reads t, on the primary or the standby: exports that begin now go on until the end of the block."""
    with dumper.database.connect() as admin, admin.transaction():
        admin.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        yield


def pause_replay(standby: StandbyServer) -> None:
    with standby.connect() as admin:
        admin.execute("SELECT pg_wal_replay_pause()")
        eventually(lambda: admin.execute("SELECT pg_get_wal_replay_pause_state()").fetchone() == ("paused",))


def resume_replay(standby: StandbyServer) -> None:
    with standby.connect() as admin:
        admin.execute("SELECT pg_wal_replay_resume()")


def test_exports_read_the_standby(dumper: Dumper, writer: Connection, standby: StandbyServer) -> None:
    """Inline and in worker processes; first as a whole, then what changed."""
    with dumper.running(export=SEGMENTS) as daemon:
        daemon.wait_for("published", source="standby", rows=3)
        assert dumper.file("t") == expected(writer)
        fill(writer)
        daemon.wait_for("published", source="standby", rows=ROWS + 3)
        assert dumper.file("t") == expected(writer)
        writer.execute("UPDATE t SET a = 'changed' WHERE _id = 70000")
        event = daemon.wait_for("published", 3, source="standby")
        assert event["reused_bytes"] > event["read_bytes"] > 0
        assert dumper.file("t") == expected(writer)
        assert dumper.file("t", "csv-bom") == b"\xef\xbb\xbf" + expected(writer)
        assert dumper.is_fresh()
        assert daemon.all("published", source="primary") == []
    with dumper.database.connect() as admin:
        assert admin.execute("SELECT count(*) FROM datastore_dumper.change").fetchone() == (0,)
        # As on the primary: no commit that the file shows is later than the position, none before the time is missing.
        assert admin.execute(
            "SELECT lsn <= pg_current_wal_insert_lsn() AND timeline = 1 AND generated_at < published_at "
            "FROM datastore_dumper.dump_status WHERE format = 'csv'"
        ).fetchone() == (True,)


def test_a_standby_that_lags_is_waited_for(dumper: Dumper, writer: Connection, standby: StandbyServer) -> None:
    pause_replay(standby)
    with dumper.running(database={"replica_wait_seconds": 30}) as daemon:
        with dumper.database.connect() as admin:
            eventually(
                lambda: (
                    admin.execute(
                        "SELECT count(*) FROM datastore_dumper.resource WHERE exporting_since IS NOT NULL"
                    ).fetchone()
                    == (1,)
                ),
            )
        assert daemon.all("published") == []
        resume_replay(standby)
        daemon.wait_for("published", source="standby", rows=3)
        assert dumper.file("t") == expected(writer)


def test_a_standby_that_stays_behind_never_publishes_an_older_state(
    dumper: Dumper, writer: Connection, standby: StandbyServer
) -> None:
    """Not even of the state before the published one, whose change rows it still shows."""
    with dumper.running(database={"replica_wait_seconds": 3}) as daemon:
        daemon.wait_for("published", source="standby", rows=3)
        before = status(dumper)
        pause_replay(standby)
        writer.execute("INSERT INTO t (a) VALUES ('later')")
        assert "behind" in daemon.wait_for("standby_behind", resource_id="t")["error"]
        daemon.wait_for("published", source="primary", rows=4)
        assert dumper.file("t") == expected(writer)
        for number in range(3):
            writer.execute("INSERT INTO t (a) VALUES ('later still')")
            daemon.wait_for("published", number + 2, source="primary")
            assert dumper.file("t") == expected(writer)
        assert status(dumper)[1:] > before[1:]
        times = [datetime.fromisoformat(event["timestamp"]) for event in daemon.all("standby_behind")]
        assert all((later - earlier).total_seconds() >= 10 for earlier, later in pairwise(times)), "not every time"
        resume_replay(standby)


def test_truncate_is_replayed_without_delay_while_segments_run(
    dumper: Dumper, writer: Connection, standby: StandbyServer
) -> None:
    """Nobody but our watchdog ends the COPY: this standby would wait for its readers for ten minutes."""
    with dumper.running(export={**SEGMENTS, "segment_bytes": 64 * 1024 * 1024}) as daemon:
        daemon.wait_for("published", source="standby", rows=3)
        writer.execute("ALTER TABLE t DISABLE TRIGGER zfulltext")
        # One segment of 400 MB, which takes much longer than the grace.
        writer.execute("INSERT INTO t (a) SELECT repeat('x', 2000) FROM generate_series(1, 200000)")
        eventually(lambda: segment_is_running(standby, dumper))
        writer.execute("TRUNCATE t")
        standby.caught_up(writer)
        daemon.wait_for("gave_way")
        eventually(lambda: dumper.is_fresh())
        assert dumper.file("t") == b"_id,a\r\n"
        assert daemon.all("export_crashed") == []


def test_a_holder_that_is_ended_is_replaced(dumper: Dumper, writer: Connection, standby: StandbyServer) -> None:
    """Its snapshot is gone with it."""
    fill(writer)
    with ExitStack() as running, standby.connect(dumper.database.name) as admin:

        def end_the_holder() -> bool:
            return bool(
                admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
                    "AND application_name = 'datastore-dumper holder' AND state = 'idle in transaction'"
                ).fetchall()
            )

        with table_locked(dumper):
            daemon = running.enter_context(dumper.running(export=SEGMENTS))
            eventually(end_the_holder)
        daemon.wait_for("published", rows=ROWS + 3)
        # How its connection learns of it: by a message, or by finding nobody there.
        conflicts = daemon.all("standby_conflict")
        assert conflicts or daemon.all("standby_unavailable")
        assert {conflict["sqlstate"] for conflict in conflicts} <= {"57P01", "42704", "22023", "55000"}
        assert dumper.file("t") == expected(writer)
        assert daemon.all("export_failed") == []


def test_a_standby_that_is_killed_is_replaced_by_the_primary(
    dumper: Dumper, writer: Connection, standby: StandbyServer
) -> None:
    fill(writer)
    with ExitStack() as running:
        with table_locked(dumper):
            daemon = running.enter_context(dumper.running(export=SEGMENTS))
            eventually(lambda: holds_snapshot(standby, dumper))
            os.kill(standby.process.pid, signal.SIGKILL)
        daemon.wait_for("published", source="primary", rows=ROWS + 3)
        assert dumper.file("t") == expected(writer)
        assert daemon.all("standby_unavailable")
        writer.execute("INSERT INTO t (a) VALUES ('later')")
        daemon.wait_for("published", source="primary", rows=ROWS + 4)
        assert dumper.file("t") == expected(writer)
        assert daemon.all("export_failed") == []
        assert daemon.process.poll() is None


def test_a_promoted_standby_is_refused(dumper: Dumper, writer: Connection, standby: StandbyServer) -> None:
    with standby.connect(dumper.database.name) as promoted:
        assert promoted.execute("SELECT pg_promote()").fetchone() == (True,)
        promoted.execute("INSERT INTO t (a) VALUES ('of another history')")
    with dumper.running() as daemon:
        daemon.wait_for("published", source="primary", rows=3)
        # At start, and again by the export.
        assert "promoted" in daemon.wait_for("standby_refused", 2)["error"]
        assert dumper.file("t") == expected(writer)


@pytest.mark.parametrize("route", ["direct", "pooled"])
def test_a_dsn_that_leads_to_a_standby(dumper: Dumper, writer: Connection, standby: StandbyServer, route: str) -> None:
    """It says where a standby belongs. It may be a primary again in a moment, so systemd starts the daemon again."""
    dumper.once()
    standby.caught_up(writer)
    with ExitStack() as stack:
        dsn = standby.dsn(dumper.database.name, "dumper")
        if route == "pooled":
            dsn = stack.enter_context(pgbouncer_to(standby)).dsn(dsn)
        config = dumper.write_config(database={"dsn": dsn, "replica_dsn": None})
        for arguments in (["run"], ["run", "--once"], ["dump", "t"], ["verify"]):
            done = subprocess.run(
                [sys.executable, "-m", "datastore_dumper", *arguments, "-c", config],
                capture_output=True, text=True, timeout=90,
            )  # fmt: skip
            assert done.returncode == EXIT_UNAVAILABLE, (arguments, done.stderr)
            assert "The server of database.dsn takes no writes" in done.stderr
            assert "a standby goes into database.replica_dsn" in done.stderr


def test_a_standby_that_was_never_there_costs_a_warning(dumper: Dumper, writer: Connection, tmp_path: Path) -> None:
    with dumper.running(database={"replica_dsn": f"host={tmp_path} user=dumper dbname=x"}) as daemon:
        daemon.wait_for("standby_unavailable")
        daemon.wait_for("published", source="primary", rows=3)


def test_a_standby_of_another_cluster_is_refused(
    dumper: Dumper, writer: Connection, standby: StandbyServer, other_database: ScratchDatabase
) -> None:
    """Whatever its position in its own WAL: it never shows the claim."""
    install(handle(other_database), ROLES)
    with other_database.connect("ckan_write") as other:
        create_table(other, "t", {"a": "text"})
    config = dumper.write_config(
        database={"dsn": other_database.dsn_for("dumper"), "replica_wait_seconds": 0.3},
    )
    with DaemonProcess.start(config) as daemon:
        assert "another cluster" in daemon.wait_for("standby_refused", 2)["error"]
        daemon.wait_for("published", source="primary", rows=0)


def test_a_transaction_that_only_the_standby_shows_is_not_published(dumper: Dumper, writer: Connection) -> None:
    """Between the commit record and the moment that the primary shows it; here from a change row that it never had."""
    with handle(dumper.database, "dumper").connect("control") as control:
        relid = control.execute("SELECT 'public.t'::regclass::oid::int").fetchone()[0]
        with handle(dumper.database, "dumper").connect("holder") as holder, hold_snapshot(holder, relid) as state:
            require_shown_by_primary(control, state)
            with dumper.database.connect() as admin:
                admin.execute("DELETE FROM datastore_dumper.change")
            with pytest.raises(StandbyAheadError):
                require_shown_by_primary(control, state)


def test_the_holder_keeps_no_lock_on_the_standby(dumper: Dumper, writer: Connection, standby: StandbyServer) -> None:
    """VACUUM of our own tables replays with ACCESS EXCLUSIVE locks, and would wait for an export to end."""
    with (
        handle(dumper.database, "dumper").connect("control") as primary,
        Database(standby.dsn(dumper.database.name, "dumper")).connect("holder") as holder,
        standby.connect(dumper.database.name) as admin,
    ):
        relid = primary.execute("SELECT 'public.t'::regclass::oid::int").fetchone()[0]
        with hold_snapshot(holder, relid, primary) as state:
            assert state.changes
            locks = admin.execute(
                "SELECT relation::regclass FROM pg_locks WHERE pid = %s AND locktype = 'relation'",
                [holder.info.backend_pid],
            ).fetchall()
            assert locks == []


def test_replica_dsn_may_come_from_a_file(dumper: Dumper, tmp_path: Path) -> None:
    secret = tmp_path / "replica-dsn"
    secret.write_text("host=standby dbname=d password=hunter2\n", encoding="utf-8")
    config = load_config(dumper.write_config(database={"replica_dsn_file": str(secret)}), {})
    assert config.database.replica_dsn is not None
    assert config.database.replica_dsn.get_secret_value() == "host=standby dbname=d password=hunter2"
    assert "hunter2" not in repr(config)


def test_check_notices_a_standby_that_does_not_come_along(
    dumper: Dumper, writer: Connection, standby: StandbyServer
) -> None:
    """Also one that has replayed all it received, and receives nothing any more."""

    def lag(wait_seconds: float) -> Result:
        loaded = load(dumper.write_config(database={"replica_wait_seconds": wait_seconds}), {})
        subject = Subject(loaded, database_of(loaded.config), dumper.storage)
        return next(result for result in checks.standby(subject) if result.name == "standby.lag")

    writer.execute("INSERT INTO t (a) VALUES ('seen')")
    assert lag(30).status == "ok"
    pause_replay(standby)
    writer.execute("INSERT INTO t (a) VALUES ('later')")
    found = lag(0.3)
    assert (found.status, found.exit_code) == ("failed", EXIT_UNAVAILABLE)
    assert "bytes of WAL behind" in found.found
    resume_replay(standby)
    assert lag(30).status == "ok"
