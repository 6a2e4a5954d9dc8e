"""Without a superuser, behind a PgBouncer that pools transactions, under short time limits: files are made all the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from datastore_dumper.checks.results import Subject
from datastore_dumper.checks.run import run_checks
from datastore_dumper.cli.options import database_of
from datastore_dumper.config import load
from datastore_dumper.config.storage import storage_settings
from datastore_dumper.database import Database
from datastore_dumper.failpoints import VARIABLE
from datastore_dumper.install import install
from datastore_dumper.storage.settings import open_storage
from tests.support.daemon import Dumper
from tests.support.datastore import create_table
from tests.support.installation import ROLES, handle
from tests.support.pgbouncer import PgBouncer
from tests.support.postgres import Connection
from tests.support.waiting import eventually

LIMIT_SECONDS = 1
LIMITS = {
    "statement_timeout": 14,
    "idle_in_transaction_session_timeout": 14,
    "idle_session_timeout": 14,
    "lock_timeout": 14,
    "transaction_timeout": 17,
}
"""Each with the release of Postgres that it came with."""
SEGMENTS = {"segment_bytes": 64 * 1024, "workers": 2}


@pytest.fixture
def writer(dumper: Dumper) -> Iterator[Connection]:
    """A DataStore where we were installed by CKAN's write role: nothing here was done by a superuser but roles' limits."""
    with dumper.database.connect() as admin:
        name = sql.Identifier(dumper.database.name)
        # What the owner of a database has.
        admin.execute(sql.SQL("GRANT CREATE ON DATABASE {} TO ckan_write").format(name))
        admin.execute("GRANT USAGE ON SCHEMA public TO dumper")  # which installing asks for
        for setting, since in LIMITS.items():
            if admin.info.server_version >= since * 10000:
                limit = sql.SQL("ALTER ROLE dumper IN DATABASE {} SET {} = {}")
                admin.execute(limit.format(name, sql.Identifier(setting), f"{LIMIT_SECONDS}s"))
        for setting in ("default_transaction_isolation = 'serializable'", "default_transaction_read_only = on"):
            admin.execute(sql.SQL("ALTER ROLE dumper IN DATABASE {} SET ").format(name) + sql.SQL(setting))
    with dumper.database.connect("ckan_write") as connection:
        create_table(connection, "t", {"a": "text"})
        connection.execute("INSERT INTO t (a) SELECT 'row ' || i FROM generate_series(1, 20000) i")
        install(handle(dumper.database, "ckan_write"), ROLES)
        yield connection


@pytest.fixture(params=["direct", "pooled"])
def route(request: pytest.FixtureRequest, dumper: Dumper) -> str:
    if request.param == "pooled":
        bouncer: PgBouncer = request.getfixturevalue("pgbouncer")
        dumper.settings["database"]["dsn"] = bouncer.dsn(dumper.settings["database"]["dsn"])
    return str(request.param)


def expected(connection: Connection) -> bytes:
    with connection.cursor().copy("COPY (SELECT _id, a FROM t ORDER BY _id) TO STDOUT csv") as copy:
        return b"_id,a\r\n" + b"".join(bytes(data) for data in copy)


def test_changes_become_files(dumper: Dumper, writer: Connection, route: str) -> None:
    with dumper.running(export=SEGMENTS, look={"interval_seconds": 0.5, "reconcile_interval_seconds": 1}) as daemon:
        daemon.wait_for("published", resource_id="t", rows=20000)
        for count in range(3):  # by then a driver would have prepared statements
            writer.execute("INSERT INTO t (a) VALUES ('new')")
            daemon.wait_for("published", resource_id="t", rows=20001 + count)
        writer.execute("TRUNCATE t RESTART IDENTITY")
        writer.execute("INSERT INTO t (a) VALUES ('x')")
        daemon.wait_for("published", resource_id="t", rows=1)
        assert dumper.file("t") == expected(writer)
        create_table(writer, "u", {"b": "text"})  # without an event trigger the reconciler finds it
        daemon.wait_for("published", resource_id="u")
        eventually(lambda: dumper.is_fresh() and dumper.is_fresh("u"))
        writer.execute("DROP TABLE u")
        daemon.wait_for("table_dropped", resource_id="u")
        for event in ("export_crashed", "task_failed", "export_failed"):
            assert daemon.all(event) == []
        assert (daemon.all("pooler_found") != []) == (route == "pooled")


def test_exports_may_take_longer_than_the_role_may(
    dumper: Dumper, writer: Connection, route: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    monkeypatch.setenv(VARIABLE, f"after_announce=pause:{marks}")
    with dumper.running(export=SEGMENTS) as daemon, dumper.database.connect() as admin:
        held = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'dumper'"
        monkeypatch.delenv(VARIABLE)
        eventually((marks / "after_announce").exists)
        # Everything of the daemon's is older than any limit, and the holder's transaction is open.
        eventually(
            lambda: (
                admin.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'dumper' "
                    "AND xact_start < clock_timestamp() - make_interval(secs => %s)",
                    [LIMIT_SECONDS * 2.5],
                ).fetchone()
                == (1,)
            ),
        )
        assert admin.execute(held).fetchone() != (0,)
        (marks / "after_announce.release").touch()
        daemon.wait_for("published", resource_id="t", rows=20000)
        assert daemon.all("export_failed") == []
        assert daemon.all("export_interrupted") == []
        if route == "direct":
            assert daemon.all("connection_lost") == []
    assert dumper.file("t") == expected(writer)


def test_other_clients_of_the_pool_keep_their_limits(dumper: Dumper, writer: Connection, pgbouncer: PgBouncer) -> None:
    dumper.settings["database"]["dsn"] = pgbouncer.dsn(dumper.settings["database"]["dsn"])
    assert dumper.once(export=SEGMENTS) == 0
    with psycopg.connect(dumper.settings["database"]["dsn"], autocommit=True) as other:
        for _ in range(20):
            assert other.execute("SHOW statement_timeout").fetchone() == (f"{LIMIT_SECONDS}s",)
            assert other.execute("SHOW default_transaction_isolation").fetchone() == ("serializable",)


def test_check_says_that_notifications_need_another_connection(
    dumper: Dumper, writer: Connection, pgbouncer: PgBouncer
) -> None:
    dumper.settings["database"]["dsn"] = pgbouncer.dsn(dumper.settings["database"]["dsn"])
    path = dumper.write_config()
    path.chmod(0o600)
    loaded = load(path, {})
    subject = Subject(loaded, database_of(loaded.config), open_storage(storage_settings(loaded.config)))
    results = {result.name: result for result in run_checks(subject)}
    assert "pools transactions: each" in results["database.pooler"].found
    assert results["database.listen"].status == "warning"
    assert "LISTEN" in results["database.listen"].mend
    assert "pooler" in results["database.listen"].mend
    assert [result.name for result in results.values() if result.status == "failed"] == []


def test_a_pooler_is_told_from_a_server(dumper: Dumper, writer: Connection, pgbouncer: PgBouncer) -> None:
    dsn = dumper.settings["database"]["dsn"]
    with Database(dsn).connect("test") as direct, Database(pgbouncer.dsn(dsn)).connect("test") as through:
        assert not direct.pooled
        assert through.pooled
