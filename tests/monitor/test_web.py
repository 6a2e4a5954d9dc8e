"""The real daemon and its three addresses: what they say while it works, cannot work, and ends."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psycopg

from datastore_dumper import __version__
from datastore_dumper.failpoints import VARIABLE
from tests.support.daemon import DaemonProcess, Dumper
from tests.support.proxy import proxy_to
from tests.support.waiting import eventually
from tests.support.watching import Watched, fetch

ROWS = 30_000


def published(watched: Watched) -> bool:
    """Whether everything is published and in order."""
    return watched.readiness() == (200, "ready", []) and watched.metrics()["oldest_unpublished_change_age_seconds"] == 0


def test_counts_of_exports(dumper: Dumper, writer: psycopg.Connection, watched: Watched) -> None:
    with dumper.running(monitor=watched.settings, export={"segment_bytes": 65536}) as daemon:
        daemon.wait_for("published", resource_id="t")
        eventually(lambda: published(watched))
        before = watched.metrics()
        assert before["exports_total", "csv", "published"] == before["exports_total", "csv-bom", "published"] == 1
        writer.execute("INSERT INTO t (a) SELECT repeat('x', 20) FROM generate_series(1, %s)", [ROWS])
        event = daemon.wait_for("published", resource_id="t", rows=ROWS)
        eventually(lambda: published(watched))
        after = watched.metrics()
        assert after["exports_total", "csv", "published"] == 2
        assert after["published_rows_total", "csv"] == after["published_rows_total", "csv-bom"] == ROWS
        length = len(dumper.file("t"))
        head = len(b"_id,a\r\n")
        assert after["published_bytes_total", "csv"] == length + head
        assert after["published_bytes_total", "csv-bom"] == length + head + 2 * 3
        assert after["read_rows_total"] == ROWS, "both files share their rows"
        assert after["read_bytes_total"] == event["read_bytes"] == length - head
        assert after["uploaded_bytes_total"] - before["uploaded_bytes_total"] == event["uploaded_bytes"]
        assert after["reused_bytes_total"] == event["reused_bytes"]
        assert after["export_duration_seconds_count"] == 2
        eventually(lambda: watched.metrics()["publish_delay_seconds_count"] == 2)  # it is the last to be counted
        assert watched.metrics()["publish_delay_seconds_sum"] > after["export_duration_seconds_sum"] > 0
        writer.execute("UPDATE t SET a = 'y' WHERE _id = 1")
        event = daemon.wait_for("published", 3, resource_id="t")
        eventually(lambda: published(watched))
        least = watched.metrics()
        assert least["read_bytes_total"] - after["read_bytes_total"] == event["read_bytes"] < length - head
        assert least["reused_bytes_total"] - after["reused_bytes_total"] == event["reused_bytes"] > length
        assert least["leases_held"] == least["snapshots_held"] == least["oldest_snapshot_age_seconds"] == 0
        assert least["notifications_total"] >= 2
        assert least["storage_operation_duration_seconds_count", "write"] == 6
        assert all(least["pending_resources", state] == 0 for state in ("exporting", "failing", "due", "waiting"))
        assert least["build_info", ".".join(map(str, sys.version_info[:3])), __version__] == 1
        assert least["process_resident_memory_bytes"] > 1_000_000
        writer.execute("UPDATE t SET a = a")
        daemon.wait_for("unchanged", resource_id="t")
        eventually(lambda: published(watched))
        assert watched.metrics()["exports_total", "csv", "unchanged"] == 1


def test_what_is_to_do_and_what_fails(dumper: Dumper, writer: psycopg.Connection, watched: Watched) -> None:
    patient = {"quiet_seconds": 600, "max_delay_seconds": 600}
    with dumper.running(monitor=watched.settings, debounce=patient):
        eventually(lambda: watched.metrics()["pending_resources", "waiting"] == 1)
        assert 0 < watched.metrics()["oldest_unpublished_change_age_seconds"] < 600
    with dumper.running(monitor=watched.settings, export={"retry_initial_seconds": 600}) as daemon:
        daemon.wait_for("published", resource_id="t")
        files = dumper.directory / "files"
        parked = files.rename(dumper.directory / "parked")
        writer.execute("INSERT INTO t (a) VALUES ('x')")
        daemon.wait_for("export_failed", resource_id="t")
        eventually(lambda: "failing" in watched.readiness()[2])
        found = watched.metrics()
        assert found["pending_resources", "failing"] == 1
        assert found["exports_total", "csv", "failed"] == 1
        assert sum(value for key, value in found.items() if key[0] == "storage_errors_total") >= 1
        parked.rename(files)


def test_an_export_under_way_and_a_writer_that_waits_for_it(
    dumper: Dumper, writer: psycopg.Connection, watched: Watched
) -> None:
    writer.execute("ALTER TABLE t DISABLE TRIGGER zfulltext")
    # Much more than the buffers between Postgres and the daemon hold, and one segment.
    writer.execute("INSERT INTO t (a) SELECT repeat('x', 1000) FROM generate_series(1, 40000)")
    paused = {VARIABLE: f"within_segment=pause:{dumper.directory}"}
    arrived = dumper.directory / "within_segment"
    with dumper.running(paused, monitor=watched.settings, export={"segment_bytes": 1 << 30}) as daemon:
        eventually(arrived.exists)
        eventually(lambda: watched.metrics()["pending_resources", "exporting"] == 1)
        found = watched.metrics()
        assert found["leases_held"] == found["snapshots_held"] == 1
        assert found["oldest_snapshot_age_seconds"] > 0
        assert found["gave_way_total"] == found["writers_waited_seconds_total"] == 0
        began = time.monotonic()
        writer.execute("SET lock_timeout = '15s'")  # xloader's
        writer.execute("TRUNCATE t")
        waited = time.monotonic() - began
        daemon.wait_for("gave_way", table="public.t")
        arrived.with_name("within_segment.release").touch()
        daemon.wait_for("published", resource_id="t", rows=0)
        found = watched.metrics()
        assert found["gave_way_total"] == 1, "one writer, however often it was looked at"
        assert 0.2 <= found["writers_waited_seconds_total"] <= waited


def test_a_storage_that_is_away(dumper: Dumper, writer: psycopg.Connection, watched: Watched) -> None:
    with dumper.running(monitor=watched.settings, look={"reconcile_interval_seconds": 1}) as daemon:
        eventually(lambda: published(watched))
        files = dumper.directory / "files"
        parked = files.rename(dumper.directory / "parked")
        daemon.wait_for("storage_unverified")
        _, status, reasons = eventually(lambda: found if (found := watched.readiness())[0] == 503 else None)
        assert (status, reasons[0]) == ("unready", "storage")
        assert watched.metrics()["storage_verified"] == watched.metrics()["ready"] == 0
        parked.rename(files)
        eventually(lambda: published(watched))
        assert watched.metrics()["storage_verified"] == watched.metrics()["ready"] == 1


def test_a_database_that_is_away(dumper: Dumper, writer: psycopg.Connection, watched: Watched) -> None:
    with proxy_to(dumper.database.dsn) as proxy:
        there = {"dsn": proxy.dsn(dumper.database.dsn_for("dumper")), "connect_timeout_seconds": 2}
        with dumper.running(database=there, monitor=watched.settings, look={"interval_seconds": 0.5}) as daemon:
            eventually(lambda: published(watched))
            proxy.refuse()
            daemon.wait_for("connection_lost", purpose="listen")
            code, _, reasons = eventually(lambda: found if (found := watched.readiness())[0] == 503 else None, 40)
            assert (code, reasons[0]) == (503, "database")
            assert watched.alive(), "it tries to connect again, so a restart is no cure"
            found = watched.metrics()
            assert found["connections_lost_total", "listen"] == found["connections_lost_total", "look"] == 1
            assert found["connecting_failed_total", "look"] >= 1
            proxy.restore()
            eventually(lambda: published(watched))


def test_a_reload_that_is_refused(dumper: Dumper, writer: psycopg.Connection, watched: Watched) -> None:
    with dumper.running(monitor=watched.settings) as daemon:
        eventually(lambda: published(watched))
        assert watched.metrics()["config_last_reload_successful"] == 1
        dumper.write_config(monitor=watched.settings, debounce={"quiet_seconds": "soon"})
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for("config_refused")
        assert watched.readiness() == (200, "degraded", ["config"])
        assert watched.metrics()["config_last_reload_successful"] == 0
        dumper.write_config(monitor=watched.settings)
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for("config_reloaded")
        assert published(watched)


def test_other_requests(dumper: Dumper, writer: psycopg.Connection, watched: Watched) -> None:
    base = f"http://{watched.address}"
    with dumper.running(monitor=watched.settings) as daemon:
        assert fetch(f"{base}/")[0] == fetch(f"{base}/metrics/x")[0] == fetch(f"{base}/../etc/passwd")[0] == 404
        assert fetch(f"{base}/livez", "HEAD") == (200, "")
        assert fetch(f"{base}/livez", "POST")[0] == 501
        assert fetch(f"{base}/livez?verbose=1")[0] == 200
        host, _, port = watched.address.partition(":")
        with socket.create_connection((host, int(port))) as idle, socket.create_connection((host, int(port))) as rude:
            rude.sendall(b"\x16\x03\x01 no HTTP\r\n\r\n")
            assert watched.alive(), "somebody who says nothing holds nobody up"
            assert "400" in rude.makefile().read()
            idle.settimeout(30)
            assert idle.recv(100) == b"", "and is hung up on"
        assert [e for e in daemon.events if e["event"] == "text"] == []


def test_without_the_setting_nobody_listens(dumper: Dumper, writer: psycopg.Connection) -> None:
    with dumper.running() as daemon:
        assert daemon.all("monitor_listening") == []
        inodes = set()
        for fd in Path(f"/proc/{daemon.process.pid}/fd").iterdir():
            with suppress(OSError):  # closed meanwhile
                inodes.add(str(fd.readlink()))
        assert any(each.startswith("socket:") for each in inodes)
        listening = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        assert not [each for each in listening if each[3] == "0A" and f"socket:[{each[9]}]" in inodes]


def test_an_address_that_is_taken(dumper: Dumper, writer: psycopg.Connection, watched: Watched) -> None:
    with dumper.running(monitor=watched.settings):
        done = subprocess.run(
            [sys.executable, "-m", "datastore_dumper", "run", "-c", str(dumper.write_config(monitor=watched.settings))],
            capture_output=True,
            text=True,
            timeout=90,
        )
        assert done.returncode == 69, done.stderr
        assert f"monitor.listen: cannot listen at {watched.address}: Address already in use" in done.stderr
        assert "Traceback" not in done.stderr
    with DaemonProcess.start(dumper.write_config(monitor={"listen": "192.0.2.1:9878"})) as daemon:
        assert daemon.process.wait(90) == 78, "that is no address of this machine, and a restart does not help"
