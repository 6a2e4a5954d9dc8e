"""Postgres crashes, fails over to a standby that lacks something, or is restored: no file shows what never happened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from itertools import pairwise

import pytest

from datastore_dumper.choice import Choice
from datastore_dumper.database import Connection
from datastore_dumper.errors import ExportError
from datastore_dumper.export import TableState, hold_snapshot
from datastore_dumper.install import install
from datastore_dumper.lease import Lease, Leases
from datastore_dumper.manifest import Manifest, Segment, sha256_of
from datastore_dumper.publish import NewFile, announce, publish
from tests.support.converged import not_fresh
from tests.support.daemon import DaemonProcess, Dumper
from tests.support.datastore import create_table
from tests.support.installation import ROLES, handle
from tests.support.postgres import ScratchDatabase
from tests.support.proxy import Proxy, proxy_to
from tests.support.standby import StandbyServer
from tests.support.waiting import eventually

FORMATS = ["csv", "csv-bom"]


@pytest.fixture
def database(replicated_database: ScratchDatabase) -> ScratchDatabase:
    return replicated_database


@pytest.fixture
def writer(database: ScratchDatabase) -> Iterator[Connection]:
    """A connection of CKAN's write role to a DataStore with a table t of one row."""
    install(handle(database), ROLES)
    with database.connect("ckan_write") as connection:
        create_table(connection, "t", {"a": "text"})
        connection.execute("INSERT INTO t (a) VALUES ('kept')")
        yield connection


def detach(standby: StandbyServer, primary: Connection) -> None:
    """Let it catch up, and then get nothing more."""
    standby.caught_up(primary)
    with standby.connect() as admin:
        admin.execute("ALTER SYSTEM SET primary_conninfo = ''")
        admin.execute("SELECT pg_reload_conf()")
        eventually(lambda: admin.execute("SELECT count(*) FROM pg_stat_wal_receiver").fetchone() == (0,))


def promote(standby: StandbyServer) -> None:
    with standby.connect() as admin:
        assert admin.execute("SELECT pg_promote()").fetchone() == (True,)


@contextmanager
def behind_proxy(dumper: Dumper) -> Iterator[tuple[Proxy, DaemonProcess]]:
    """A daemon whose connection string can lead elsewhere."""
    with proxy_to(dumper.database.server.superuser_dsn) as proxy:
        there = proxy.dsn(dumper.database.dsn_for("dumper"))
        with dumper.running(database={"dsn": there}, look={"reconcile_interval_seconds": 1}) as daemon:
            yield proxy, daemon


def test_after_a_failover_the_files_are_those_of_the_new_primary(
    dumper: Dumper, writer: Connection, standby_server: StandbyServer
) -> None:
    """The standby lacks the last commit and its publication."""
    with behind_proxy(dumper) as (proxy, daemon):
        daemon.wait_for("published", resource_id="t", rows=1)
        detach(standby_server, writer)
        writer.execute("INSERT INTO t (a) VALUES ('lost')")
        daemon.wait_for("published", resource_id="t", rows=2)
        promote(standby_server)
        proxy.lead_to("127.0.0.1", standby_server.process.port)
        proxy.cut()
        daemon.wait_for("listening", 2)
        with standby_server.connect(dumper.database.name) as promoted:
            promoted.execute("INSERT INTO t (a) VALUES ('of the new history')")
            eventually(lambda: not_fresh(promoted, FORMATS) == [])
            key, timeline = promoted.execute(
                "SELECT storage_key, timeline FROM datastore_dumper.dump_status WHERE format = 'csv'"
            ).fetchone() or ("", 0)
            rows = [f"{number},{text}\n" for number, text in promoted.execute("SELECT _id, a FROM t ORDER BY _id")]
        with dumper.storage.open(key) as stream:
            assert stream.read().decode() == "_id,a\r\n" + "".join(rows)
        assert "lost" not in "".join(rows)
        assert timeline == 2


def test_a_standby_in_the_primarys_place_is_waited_for(
    dumper: Dumper, writer: Connection, standby_server: StandbyServer
) -> None:
    """The connection string leads to it before somebody promotes it. A table that is due there can be seen, not claimed."""
    with behind_proxy(dumper) as (proxy, daemon):
        daemon.wait_for("published", resource_id="t", rows=1)
        with daemon.frozen():
            writer.execute("INSERT INTO t (a) VALUES ('kept, too')")
            detach(standby_server, writer)
            proxy.lead_to("127.0.0.1", standby_server.process.port)
            proxy.cut()
        daemon.wait_for("export_interrupted", 4)
        times = [datetime.fromisoformat(event["timestamp"]) for event in daemon.all("export_interrupted")]
        assert all((later - earlier).total_seconds() > 1.9 for earlier, later in pairwise(times[1:])), "every 2 s"
        for purpose in ("listen", "keep house"):
            eventually(lambda purpose=purpose: refused_writes(daemon, purpose))  # type: ignore[misc]
        assert daemon.process.poll() is None
        promote(standby_server)
        with standby_server.connect(dumper.database.name) as promoted:
            eventually(lambda: promoted.execute("SELECT pg_is_in_recovery()").fetchone() == (False,))
            promoted.execute("INSERT INTO t (a) VALUES ('of the new history')")
            eventually(lambda: not_fresh(promoted, FORMATS) == [])


def refused_writes(daemon: DaemonProcess, purpose: str) -> bool:
    return any("takes no writes" in lost["error"] for lost in daemon.all("connection_lost", purpose=purpose))


@contextmanager
def exported(database: ScratchDatabase, connection: Connection) -> Iterator[tuple[Lease, TableState, NewFile]]:
    """The table t claimed and read, its file announced."""
    with database.connect() as admin:
        (relid,) = admin.execute("SELECT 'public.t'::regclass::oid::int").fetchone() or (0,)
    lease = Leases("test", 60).claim(connection, relid)
    assert lease is not None
    with handle(database, "dumper").connect("holder") as holder, hold_snapshot(holder, relid) as state:
        pass
    announce(connection, "t/1/t.csv")
    segment = Segment(None, None, 1, 1, 2, sha256_of(b"x"))
    manifest = Manifest(1, sha256_of(b"h"), (segment,), 0, 0, sha256_of(b""))
    yield lease, state, NewFile("csv", "t/1/t.csv", "etag", "text/csv", "2.12", manifest, announced=True)


def put_out(connection: Connection, lease: Lease, state: TableState, file: NewFile) -> None:
    (installation,) = connection.execute("SELECT id FROM datastore_dumper.installation").fetchone() or (None,)
    publish(
        connection,
        lease,
        state,
        [file],
        choice=Choice("always", formats=("csv",)),
        installation=installation,
        retain_seconds=1,
        duration_seconds=1,
    )


def test_nothing_is_published_on_a_server_that_may_lack_what_was_read(
    database: ScratchDatabase, writer: Connection, standby_server: StandbyServer
) -> None:
    """Also if nobody noticed: a pooler goes on with another server behind the same connection."""
    with handle(database, "dumper").connect("control") as control, exported(database, control) as (lease, state, file):
        detach(standby_server, writer)
        promote(standby_server)
        promoted = ScratchDatabase(standby_server, database.name)
        with (
            handle(promoted, "dumper").connect("control") as other,
            pytest.raises(ExportError, match="failed over or restored"),
        ):
            put_out(other, lease, state, file)
        assert not_fresh(control, ["csv"]) == ["t.csv"]
        put_out(control, lease, state, file)
        assert not_fresh(control, ["csv"]) == []


def test_nothing_is_published_that_shows_a_change_which_is_gone(database: ScratchDatabase, writer: Connection) -> None:
    """Committed with synchronous_commit off, seen by the export, lost by a crash of the server's processes."""
    with handle(database, "dumper").connect("control") as control, exported(database, control) as (lease, state, file):
        lost = (*state.changes, ("1234567", 0))
        with pytest.raises(ExportError, match="does not have all changes"):
            put_out(control, lease, replace(state, changes=lost), file)
        assert not_fresh(control, ["csv"]) == ["t.csv"]


@pytest.mark.parametrize("forged", ["lsn = 'FFFF/0'", "timeline = 99"])
def test_files_newer_than_the_database_are_made_anew(dumper: Dumper, writer: Connection, forged: str) -> None:
    """Their rows were kept where the rest was restored to an earlier point."""
    assert dumper.once() == 0
    with dumper.database.connect() as admin:
        admin.execute(f"UPDATE datastore_dumper.dump_status SET {forged}")
        if "lsn" in forged:
            assert not_fresh(admin, FORMATS) == ["t.csv", "t.csv-bom"]
        assert dumper.once() == 0
        assert not_fresh(admin, FORMATS) == []
        assert admin.execute(
            "SELECT DISTINCT lsn < pg_current_wal_insert_lsn(), timeline FROM datastore_dumper.dump_status"
        ).fetchall() == [(True, 1)]
