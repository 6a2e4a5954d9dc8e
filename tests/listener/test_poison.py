"""A table that cannot be exported: it backs off, says why, is in nobody's way, and comes back as soon as it can."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from datastore_dumper.install import install
from datastore_dumper.lease import Leases
from tests.support.daemon import Dumper
from tests.support.datastore import create_table
from tests.support.installation import ROLES, handle
from tests.support.postgres import Connection
from tests.support.waiting import eventually

# Reading it fails as long as a row has 0, whatever the format: CKAN's own dump fails, too.
POISON = "ALTER TABLE poison ADD COLUMN b int GENERATED ALWAYS AS (1 / a) {kind}"


@pytest.fixture
def writer(dumper: Dumper) -> Iterator[Connection]:
    """A DataStore with a sound table, and one with a column that raises."""
    install(handle(dumper.database), ROLES)
    with dumper.database.connect("ckan_write") as connection:
        if connection.info.server_version < 180000:
            pytest.skip("columns that are computed when they are read came with PostgreSQL 18")
        for table in ("sound", "poison"):
            create_table(connection, table, {"a": "int"})
            connection.execute(f"INSERT INTO {table} (a) VALUES (1)".encode())
        connection.execute(POISON.format(kind="VIRTUAL").encode())
        connection.execute("INSERT INTO poison (a) VALUES (0)")
        yield connection


def resource(dumper: Dumper, column: str) -> object:
    with dumper.database.connect() as admin:
        row = admin.execute(f"SELECT {column} FROM datastore_dumper.resource WHERE resource_id = 'poison'".encode())
        return row.fetchone()[0]


def test_it_backs_off_and_blocks_nobody(dumper: Dumper, writer: Connection) -> None:
    export = {"concurrency": 1, "retry_initial_seconds": 0.4, "retry_max_seconds": 0.8}
    with dumper.running(debounce={"quiet_seconds": 0.05}, export=export, look={"interval_seconds": 0.1}) as daemon:
        daemon.wait_for("export_failed", 6, resource_id="poison")
        for number in range(5):
            writer.execute("INSERT INTO sound (a) VALUES (2)")
            daemon.wait_for("published", resource_id="sound", rows=number + 2)
        failures = daemon.all("export_failed")
        assert {failure["resource_id"] for failure in failures} == {"poison"}
        assert all("division by zero" in failure["error"] for failure in failures)
        assert [failure["attempts"] for failure in failures] == list(range(1, len(failures) + 1))
        delays = [failure["retry_seconds"] for failure in failures]
        assert 0.2 <= delays[0] <= 0.4
        assert all(0.4 <= delay <= 0.8 for delay in delays[1:])
        assert min(delays[1:]) < 0.8  # jitter: of five without it, all but the first would be the most
        assert "division by zero" in str(resource(dumper, "last_error"))
        assert not dumper.is_fresh("poison")
        writer.execute("UPDATE poison SET a = 2 WHERE a = 0")
        daemon.wait_for("published", resource_id="poison", rows=2)
        eventually(lambda: dumper.is_fresh("poison"))
        assert (resource(dumper, "last_error"), resource(dumper, "attempts")) == (None, 0)


def test_a_request_does_not_wait_for_the_backoff(dumper: Dumper, writer: Connection) -> None:
    with dumper.running(export={"retry_initial_seconds": 600, "retry_max_seconds": 600}) as daemon:
        daemon.wait_for("export_failed", resource_id="poison")
        writer.execute("DELETE FROM poison WHERE a = 0")
        writer.execute("INSERT INTO sound (a) VALUES (2)")
        daemon.wait_for("published", resource_id="sound", rows=2)
        assert daemon.all("published", resource_id="poison") == []
        with dumper.database.connect() as admin:
            admin.execute("SELECT datastore_dumper.request('poison', false)")
        daemon.wait_for("published", resource_id="poison", rows=1)


def test_formats_that_refuse_a_table_do_not_keep_it_busy(dumper: Dumper, writer: Connection) -> None:
    """No format that is made can show it, and that is known until it changes."""
    writer.execute("DELETE FROM poison WHERE a = 0")
    create_table(writer, "dates", {"d": "timestamp"})
    writer.execute("INSERT INTO dates (d) VALUES ('infinity')")
    with dumper.running(export={"formats": ["parquet"]}) as daemon:
        daemon.wait_for("format_failed", resource_id="dates")
        writer.execute("INSERT INTO sound (a) VALUES (2)")
        daemon.wait_for("published", resource_id="sound", rows=2)
        assert daemon.all("export_failed") == []
        assert len(daemon.all("format_failed")) == 1
        writer.execute("UPDATE dates SET d = '2024-01-01'")
        daemon.wait_for("published", resource_id="dates", rows=1)


def test_a_table_that_its_daemon_dies_of_is_counted(dumper: Dumper, writer: Connection) -> None:
    with handle(dumper.database, "dumper").connect("test") as connection:
        (relid,) = writer.execute("SELECT 'poison'::regclass::oid::int").fetchone() or (0,)
        for number in range(3):
            lease = Leases(f"daemon {number}", 20).claim(connection, relid)
            assert lease is not None
            assert lease.attempts == number
            connection.execute("UPDATE datastore_dumper.resource SET lease_until = '-infinity'")
        assert "daemon 1 died" in str(resource(dumper, "last_error"))
