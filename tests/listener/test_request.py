"""Exports that somebody asks for: they do not wait for quiet, outlive the daemon, and are full where that is wanted."""

from __future__ import annotations

from datetime import datetime

import psycopg
import pytest

from datastore_dumper.install import install
from tests.support.daemon import Dumper
from tests.support.datastore import create_table
from tests.support.installation import ROLES, handle
from tests.support.waiting import eventually

PATIENT = {"quiet_seconds": 600, "max_delay_seconds": 600}


@pytest.fixture
def writer(dumper: Dumper):
    """A DataStore with a published table t of one row, and a connection of CKAN's write role."""
    install(handle(dumper.database), ROLES)
    with dumper.database.connect("ckan_write") as connection:
        create_table(connection, "t", {"a": "text"})
        connection.execute("INSERT INTO t (a) VALUES ('x')")
        assert dumper.once() == 0
        yield connection


def request(writer: psycopg.Connection, resource_id: str = "t", *, full: bool = False) -> datetime | None:
    row = writer.execute("SELECT datastore_dumper.request(%s, %s)", [resource_id, full]).fetchone()
    assert row is not None
    return row[0]


def requested(dumper: Dumper) -> list[tuple[str, datetime | None, bool]]:
    with dumper.database.connect() as admin:
        return admin.execute(
            "SELECT resource_id, requested_at, requested_full FROM datastore_dumper.resource"
        ).fetchall()


def is_leased(dumper: Dumper) -> bool:
    with dumper.database.connect() as admin:
        return admin.execute("SELECT lease_owner FROM datastore_dumper.resource").fetchone() != (None,)


def test_a_request_does_not_wait_for_quiet(dumper: Dumper, writer) -> None:
    with dumper.running(debounce=PATIENT) as daemon:
        writer.execute("INSERT INTO t (a) VALUES ('y')")
        assert daemon.all("published", resource_id="t") == []
        assert request(writer) is not None
        assert daemon.wait_for("published", resource_id="t", rows=2)["full"] is False
    assert requested(dumper) == [("t", None, False)]
    assert dumper.file("t") == b"_id,a\r\n1,x\n2,y\n"


def test_a_request_outlives_the_daemon_and_needs_no_change(dumper: Dumper, writer) -> None:
    request(writer)
    with dumper.running(debounce=PATIENT) as daemon:
        daemon.wait_for("unchanged", resource_id="t", read_bytes=0)
    assert requested(dumper) == [("t", None, False)]


def test_a_full_export_mends_what_the_storage_lost(dumper: Dumper, writer) -> None:
    """Whatever the manifest promises, everything is read and stored anew."""
    file = dumper.file("t")
    with dumper.database.connect("dumper") as admin:
        keys = [key for (key,) in admin.execute("SELECT storage_key FROM datastore_dumper.dump_status")]
    for key in keys:
        (dumper.directory / "files" / key).write_bytes(b"?" * 7)
    request(writer, full=True)
    request(writer)  # a lesser request takes nothing back
    assert [(name, full) for name, _, full in requested(dumper)] == [("t", True)]
    with dumper.running(debounce=PATIENT) as daemon:
        event = daemon.wait_for("published", resource_id="t", full=True)
    assert event["reused_bytes"] == 0
    assert event["read_bytes"] > 0
    assert dumper.file("t") == file
    assert requested(dumper) == [("t", None, False)]


def test_a_failed_table_is_tried_again_at_once(dumper: Dumper, writer) -> None:
    with dumper.database.connect() as admin:
        admin.execute(
            "UPDATE datastore_dumper.resource SET retry_at = clock_timestamp() + interval '1 hour', attempts = 9"
        )
    writer.execute("INSERT INTO t (a) VALUES ('y')")
    with dumper.running() as daemon:
        request(writer)
        daemon.wait_for("published", resource_id="t", rows=2)


def test_a_request_during_an_export_asks_for_another(dumper: Dumper, writer) -> None:
    """What runs already may show an earlier state, and is not full."""
    writer.execute("INSERT INTO t (a) VALUES ('y')")
    with dumper.running(debounce=PATIENT, export={"lock_timeout_seconds": 10}) as daemon:
        with dumper.database.connect() as admin, admin.transaction():
            admin.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")  # the export, once claimed, waits for its end
            first = request(writer)
            eventually(lambda: is_leased(dumper))
            second = request(writer, full=True)
            assert first < second
            assert requested(dumper) == [("t", second, True)]
        assert daemon.wait_for("published", resource_id="t", rows=2)["full"] is False
        daemon.wait_for("published", 2, resource_id="t", rows=2)
        assert daemon.all("published", full=True)
    assert requested(dumper) == [("t", None, False)]


def test_a_table_that_is_not_looked_after_yet(dumper: Dumper, writer) -> None:
    with dumper.database.connect() as admin:
        admin.execute("DROP EVENT TRIGGER datastore_dumper_ddl")
    create_table(writer, "new", {"a": "text"})
    request(writer, "new")
    with dumper.running(debounce=PATIENT) as daemon:
        daemon.wait_for("published", resource_id="new")


@pytest.mark.parametrize("resource_id", ["", "nope", "t'--", "_table_metadata", "pg_class", "x" * 1000])
def test_unknown_and_hostile_ids(dumper: Dumper, writer, resource_id: str) -> None:
    assert request(writer, resource_id) is None
    assert [name for name, _, _ in requested(dumper)] == ["t"]


def test_who_may_ask(dumper: Dumper, writer) -> None:
    with dumper.database.connect("dumper") as daemon:
        assert request(daemon) is not None
    with dumper.database.connect("ckan_read") as reader, pytest.raises(psycopg.errors.InsufficientPrivilege):
        request(reader)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        writer.execute("SELECT * FROM datastore_dumper.resource")
