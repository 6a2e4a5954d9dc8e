"""`datastore-dumper dump`: with and without a daemon, in full, of tables that fail, and broken off."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import psycopg
import pytest

from datastore_dumper.errors import EXIT_FAILURE, EXIT_USAGE
from tests.cli.conftest import at_terminal, command
from tests.support.daemon import Dumper
from tests.support.datastore import create_table
from tests.support.waiting import eventually

PATIENT = {"quiet_seconds": 600, "max_delay_seconds": 600}


def resource_rows(dumper: Dumper) -> list[tuple[object, ...]]:
    with dumper.database.connect() as admin:
        return admin.execute("SELECT lease_owner, requested_at FROM datastore_dumper.resource").fetchall()


def test_without_a_daemon(dumper: Dumper, writer: psycopg.Connection) -> None:
    create_table(writer, "other", {"a": "text"})
    writer.execute("INSERT INTO t (a) VALUES ('x')")
    done = command(dumper.write_config(debounce=PATIENT), "dump", "t")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "t: 1 row: csv (11 B), csv-bom (14 B)\n"
    assert dumper.file("t") == b"_id,a\r\n1,x\n"
    with dumper.database.connect() as admin:
        assert admin.execute("SELECT DISTINCT resource_id FROM datastore_dumper.dump_status").fetchall() == [("t",)]
    assert resource_rows(dumper) == [(None, None)] * 2
    assert list(dumper.directory.glob("*spool*")) == []


def test_several_as_json(dumper: Dumper, writer: psycopg.Connection) -> None:
    create_table(writer, "other", {"a": "text"})
    done = command(dumper.write_config(), "dump", "--json", "other", "t")
    assert done.returncode == 0
    reports = {report["resource_id"]: report for report in json.loads(done.stdout)}
    assert set(reports) == {"t", "other"}
    assert reports["t"] == {
        "resource_id": "t",
        "error": None,
        "rows": 0,
        "files": {"csv": 7, "csv-bom": 10},
        "failures": {},
        "unkept": None,
    }


def test_in_full(dumper: Dumper, writer: psycopg.Connection) -> None:
    """What the storage lost is made again, although nothing has changed."""
    assert dumper.once() == 0
    expected = dumper.file("t")
    for stored in list(dumper.storage.list()):
        (dumper.directory / "files" / stored.key).write_bytes(b"?" * len(expected))
    done = command(dumper.write_config(), "dump", "--full", "t")
    assert done.returncode == 0
    assert dumper.file("t") == expected


def lease_to_somebody(admin: psycopg.Connection) -> None:
    """As if another daemon were at all tables, for long."""
    admin.execute(
        "UPDATE datastore_dumper.resource SET lease_owner = 'somebody', "
        "lease_until = clock_timestamp() + interval '1 hour', exported_rows = 5, expected_rows = 10"
    )


def test_with_a_daemon_that_waits_for_quiet(dumper: Dumper, writer: psycopg.Connection) -> None:
    with dumper.running(debounce=PATIENT):
        writer.execute("INSERT INTO t (a) VALUES ('x')")
        assert command(dumper.write_config(debounce=PATIENT), "dump", "t").returncode == 0
        assert dumper.file("t") == b"_id,a\r\n1,x\n"


def test_waits_for_whoever_exports_it_now(dumper: Dumper, writer: psycopg.Connection) -> None:
    with dumper.database.connect() as admin:
        lease_to_somebody(admin)
        with at_terminal(dumper.write_config(), "dump", "t") as terminal:
            terminal.wait_for("(by somebody)")
            assert terminal.process.poll() is None
            admin.execute("UPDATE datastore_dumper.resource SET lease_owner = NULL, lease_until = NULL")
            assert terminal.process.wait(90) == 0


def test_what_a_daemon_has_made_meanwhile_is_not_waited_for(dumper: Dumper, writer: psycopg.Connection) -> None:
    """It has published the table, and with that has served the request: there is nothing left to claim."""
    assert dumper.once() == 0
    with dumper.database.connect() as admin:
        lease_to_somebody(admin)
        with at_terminal(dumper.write_config(), "dump", "t") as terminal:
            terminal.wait_for("(by somebody)")
            admin.execute(
                "UPDATE datastore_dumper.resource SET lease_owner = NULL, lease_until = NULL, requested_at = NULL, "
                "requested_full = false"
            )
            assert terminal.process.wait(90) == 0


@pytest.mark.parametrize("arguments", [("t",), ("--full", "t")])
def test_beside_a_daemon(dumper: Dumper, writer: psycopg.Connection, arguments: tuple[str, ...]) -> None:
    """Whoever of the two is quicker."""
    with dumper.running() as daemon:
        daemon.wait_for("published", resource_id="t")
        for _ in range(3):
            assert command(dumper.write_config(), "dump", *arguments).returncode == 0


def test_a_table_that_fails_does_not_keep_the_others(dumper: Dumper, writer: psycopg.Connection) -> None:
    create_table(writer, "secret", {"a": "text"})
    with dumper.database.connect() as admin:
        admin.execute("REVOKE SELECT ON secret FROM dumper")
        done = command(dumper.write_config(), "dump", "secret", "t")
    assert done.returncode == EXIT_FAILURE
    assert done.stdout.startswith("t: 0 rows: ")
    assert "secret: failed: " in done.stderr
    assert "permission denied" in done.stderr


def test_a_format_that_cannot_be_had_is_named(dumper: Dumper, writer: psycopg.Connection) -> None:
    create_table(writer, "odd", {"p": "point"})
    done = command(dumper.write_config(export={"formats": ["csv", "parquet"]}), "dump", "odd")
    assert done.returncode == 0
    assert "not as parquet: " in done.stdout


def test_a_table_that_has_no_triggers_yet(dumper: Dumper, writer: psycopg.Connection) -> None:
    with dumper.database.connect() as admin:
        admin.execute("DROP EVENT TRIGGER datastore_dumper_ddl")
    create_table(writer, "new", {"a": "text"})
    assert command(dumper.write_config(), "dump", "new").returncode == 0
    with dumper.database.connect("ckan_read") as reader:
        assert reader.execute("SELECT fresh FROM datastore_dumper.lookup('new', 'csv')").fetchone() == (True,)


@pytest.mark.parametrize("resource_id", ["nobody", "", "t'--", "_table_metadata"])
def test_names_that_are_none(dumper: Dumper, writer: psycopg.Connection, resource_id: str) -> None:
    done = command(dumper.write_config(), "dump", "t", resource_id)
    assert done.returncode == EXIT_FAILURE
    assert f"There is no DataStore table {resource_id}" in done.stderr
    assert len(done.stderr.splitlines()) <= 3
    with dumper.database.connect() as admin:
        assert admin.execute("SELECT count(*) FROM datastore_dumper.dump_status").fetchone() == (0,), "none was begun"


def test_no_names(dumper: Dumper) -> None:
    assert command(dumper.write_config(), "dump").returncode == EXIT_USAGE


def test_a_table_that_is_dropped_while_it_waits(dumper: Dumper, writer: psycopg.Connection) -> None:
    with dumper.database.connect() as admin:
        lease_to_somebody(admin)
        with at_terminal(dumper.write_config(), "dump", "t") as terminal:
            terminal.wait_for("(by somebody)")
            writer.execute("DROP TABLE t")
            assert terminal.process.wait(90) == EXIT_FAILURE
            terminal.wait_for("is gone")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_broken_off_it_leaves_nothing_behind(
    dumper: Dumper, writer: psycopg.Connection, number: signal.Signals, tmp_path: Path
) -> None:
    writer.execute("INSERT INTO t (a) SELECT repeat('x', 1000) FROM generate_series(1, 50000)")
    with dumper.database.connect("ckan_write") as other, other.transaction():
        other.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")  # it cannot end before it is told to
        with at_terminal(dumper.write_config(), "dump", "t") as terminal:
            eventually(lambda: resource_rows(dumper)[0][0] is not None)
            terminal.process.send_signal(number)
            assert terminal.process.wait(90) == 130
            terminal.wait_for("Interrupted.")
    assert resource_rows(dumper) == [(None, None)]
    assert list(dumper.storage.list()) == []
    assert list(tmp_path.glob("*spool*")) == []
