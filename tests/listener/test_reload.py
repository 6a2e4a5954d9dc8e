"""SIGHUP: a running daemon takes over what it can, says what needs a restart, and stays as it is if the file is wrong."""

from __future__ import annotations

import signal
import threading

import psycopg
import pytest

from datastore_dumper.cli.options import database_of
from datastore_dumper.config import Config
from datastore_dumper.daemon import Daemon
from datastore_dumper.install import install
from tests.support.daemon import DaemonProcess, Dumper
from tests.support.datastore import create_table
from tests.support.installation import ROLES, handle

PATIENT = {"quiet_seconds": 600, "max_delay_seconds": 600}


@pytest.fixture
def writer(dumper: Dumper):
    """A DataStore with a published table t, and a connection of CKAN's write role."""
    install(handle(dumper.database), ROLES)
    with dumper.database.connect("ckan_write") as connection:
        create_table(connection, "t", {"a": "text"})
        assert dumper.once() == 0
        yield connection


def test_what_a_running_daemon_takes_over(dumper: Dumper, writer: psycopg.Connection) -> None:
    with dumper.running(debounce=PATIENT) as daemon:
        writer.execute("INSERT INTO t (a) VALUES ('x')")
        dumper.write_config(
            lease={"ttl_seconds": 7}, database={"connect_timeout_seconds": 9}, export={"concurrency": 3, "workers": 1}
        )
        daemon.process.send_signal(signal.SIGHUP)
        event = daemon.wait_for("config_reloaded")
        assert event["applied"] == ["debounce.quiet_seconds", "debounce.max_delay_seconds"]
        assert event["needs_restart"] == [
            "database.connect_timeout_seconds", "export.concurrency", "export.workers", "lease.ttl_seconds",
        ]  # fmt: skip
        daemon.wait_for("published", resource_id="t", rows=1)
        dumper.write_config(export={"formats": ["csv", "tsv"]})
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for("published", resource_id="t", formats=["csv", "tsv"])
    assert dumper.file("t", "tsv") == b"_id\ta\r\n1\tx\n"


def test_a_wrong_file_changes_nothing(dumper: Dumper, writer: psycopg.Connection) -> None:
    with dumper.running() as daemon:
        dumper.write_config(debounce={"quiet_seconds": "soon"})
        daemon.process.send_signal(signal.SIGHUP)
        event = daemon.wait_for("config_refused")
        assert "debounce.quiet_seconds" in event["error"]
        (dumper.directory / "config.yaml").unlink()
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for("config_refused", 2)
        writer.execute("INSERT INTO t (a) VALUES ('x')")
        daemon.wait_for("published", resource_id="t", rows=1)


def test_of_two_hangups_the_later_one_counts(dumper: Dumper) -> None:
    """However long the first takes to read the file, which may have been written again meanwhile."""
    former, later = (
        dumper.config(debounce={"quiet_seconds": seconds, "max_delay_seconds": 60}) for seconds in (11, 12)
    )
    read, go_on = threading.Event(), threading.Event()

    def read_former() -> Config:
        read.set()
        assert go_on.wait(30)
        return former

    answers = iter((read_former, lambda: later))
    daemon = Daemon(dumper.config(), database_of(later), dumper.storage, lambda: next(answers)())
    first, second = (threading.Thread(target=daemon._reload) for _ in range(2))
    first.start()
    assert read.wait(30)
    second.start()
    second.join(0.2)  # as far as it comes
    go_on.set()
    first.join()
    second.join()
    assert daemon._config.debounce.quiet_seconds == 12


def test_a_hangup_as_soon_as_the_daemon_has_said_a_word(dumper: Dumper, writer: psycopg.Connection) -> None:
    with DaemonProcess.start(dumper.write_config()) as daemon:
        daemon.wait_for("daemon_started")
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for("config_reloaded")
        daemon.wait_for("listening")


def test_secrets_are_not_told(dumper: Dumper, writer: psycopg.Connection) -> None:
    with dumper.running() as daemon:
        dumper.write_config(database={"dsn": "postgresql://u:hunter2@h/d"})
        daemon.process.send_signal(signal.SIGHUP)
        assert daemon.wait_for("config_reloaded")["needs_restart"] == ["database.dsn"]
        assert not any("hunter2" in str(event) for event in daemon.events)
        dumper.write_config()
