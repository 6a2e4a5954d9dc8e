"""What may happen around the daemon: the network to Postgres, full disks, clocks that jump. (What S3 may answer:
test_s3_faults.)"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from datastore_dumper.failpoints import VARIABLE
from tests.support.converged import collect_all, orphans
from tests.support.daemon import DaemonProcess, Dumper
from tests.support.proxy import Proxy, proxy_to
from tests.support.waiting import eventually

LIBFAKETIME = Path("/usr/lib") / f"{os.uname().machine}-linux-gnu" / "faketime" / "libfaketime.so.1"


@dataclass
class Far:
    """A daemon behind a proxy."""

    daemon: DaemonProcess
    proxy: Proxy

    def publishes(self, rows: int) -> None:
        self.daemon.wait_for("published", resource_id="t", rows=rows)


@pytest.fixture
def far(dumper: Dumper, writer: psycopg.Connection) -> Iterator[Far]:
    with proxy_to(dumper.database.dsn) as proxy:
        there = {"dsn": proxy.dsn(dumper.database.dsn_for("dumper")), "connect_timeout_seconds": 2}
        with dumper.running(database=there) as daemon:
            far = Far(daemon, proxy)
            far.publishes(0)
            yield far


def test_without_any_notification_the_daemon_looks_by_itself(far: Far, writer) -> None:
    far.proxy.drop_notifications()
    for rows in range(1, 4):
        writer.execute("INSERT INTO t (a) VALUES ('x')")
        far.publishes(rows)
    assert far.proxy.dropped_notifications > 0
    assert len(far.daemon.all("listening")) == 1, "the connection itself is sound"


@pytest.mark.parametrize(
    ("misbehave", "event"), [(Proxy.cut, "connection_lost"), (Proxy.refuse, "connecting_failed")], ids=["cut", "refuse"]
)
def test_what_was_written_while_postgres_was_out_of_reach_is_published(
    far: Far, writer, misbehave: Callable[[Proxy], None], event: str
) -> None:
    misbehave(far.proxy)
    writer.execute("INSERT INTO t (a) VALUES ('x')")
    far.daemon.wait_for(event)
    far.proxy.restore()
    far.publishes(1)


def test_what_is_written_is_published_over_a_slow_network(far: Far, writer) -> None:
    far.proxy.delay(0.05)
    writer.execute("INSERT INTO t (a) VALUES ('x')")
    far.publishes(1)


def test_a_daemon_cut_off_from_postgres_loses_its_tables_to_another(dumper: Dumper, far: Far, writer) -> None:
    far.proxy.freeze()
    writer.execute("INSERT INTO t (a) VALUES ('x')")
    with dumper.running() as other:
        other.wait_for("published", resource_id="t", rows=1)
    far.proxy.restore()
    writer.execute("INSERT INTO t (a) VALUES ('y')")
    far.publishes(2)
    assert dumper.file("t") == b"_id,a\r\n1,x\n2,y\n"


@pytest.mark.parametrize("rows", [1, 66_000], ids=["in the daemon", "in worker processes"])
def test_a_daemon_stops_although_its_export_waits_for_a_silent_server(
    dumper: Dumper, writer, tmp_path: Path, rows: int
) -> None:
    writer.execute("INSERT INTO t (a) SELECT repeat('x', 120) FROM generate_series(1, %s)", [rows])
    place = "after_snapshot" if rows == 1 else "worker/within_segment"
    mark = tmp_path / place.rpartition("/")[2]
    dumper.settings["shutdown_timeout_seconds"] = 1
    with proxy_to(dumper.database.dsn) as proxy:
        config = dumper.write_config(
            database={"dsn": proxy.dsn(dumper.database.dsn_for("dumper")), "connect_timeout_seconds": 2},
            export={"segment_bytes": 1 << 20},
        )
        with DaemonProcess.start(config, {VARIABLE: f"{place}=pause:{tmp_path}"}) as daemon:
            eventually(mark.exists)
            proxy.freeze()
            mark.with_name(f"{mark.name}.release").touch()
            assert daemon.terminate() == 0
            assert daemon.all("exports_cut_off")
            proxy.restore()


@pytest.mark.parametrize("which", [min, max])
def test_a_daemon_stops_although_one_of_its_worker_processes_was_killed(
    dumper: Dumper, writer, which: Callable[[set[int]], int]
) -> None:
    """One of them holds the lock of the queue of tasks while it waits, so the other one waits for ever."""
    writer.execute("INSERT INTO t (a) SELECT repeat('x', 120) FROM generate_series(1, 66000)")
    with dumper.running(export={"segment_bytes": 1 << 20}) as daemon:
        daemon.wait_for("published", resource_id="t", rows=66_000)
        workers = daemon.worker_processes()
        assert len(workers) == 2
        os.kill(which(workers), signal.SIGKILL)
        assert daemon.terminate() == 0


@contextmanager
def small_disk(path: Path, size_bytes: int) -> Iterator[None]:
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", path], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


@pytest.mark.parametrize("which", ["storage", "spool"])
def test_a_full_disk_is_waited_out(dumper: Dumper, writer, tmp_path: Path, which: str) -> None:
    full = tmp_path / "full"
    full.mkdir()
    with small_disk(full, 4 << 20):
        filler = full / ".filler"
        if which == "storage":
            dumper.settings["storage"] = {"type": "disk", "disk": {"directory": str(full)}}
        export = {"retry_max_seconds": 0.5, **({"spool_directory": str(full)} if which == "spool" else {})}
        with dumper.running(export=export) as daemon:
            daemon.wait_for("published", resource_id="t", rows=0)
            filler.write_bytes(b"\0" * (3 << 20))
            writer.execute("INSERT INTO t (a) SELECT repeat('x', 1000) FROM generate_series(1, 1500)")
            failed = daemon.wait_for("export_failed", resource_id="t")
            assert "No space left" in failed["error"]
            filler.unlink()
            daemon.wait_for("published", resource_id="t", rows=1500)
        collect_all(dumper.database, dumper.storage)
        assert orphans(dumper.database, dumper.storage) == []


def test_a_file_that_may_not_grow_is_not_published(dumper: Dumper, writer) -> None:
    """RLIMIT_FSIZE, which needs no root: writing ends in the middle."""
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (65536, resource.RLIM_INFINITY));"
        "from datastore_dumper.command import main; sys.argv[0] = 'datastore-dumper'; main()"
    )
    writer.execute("INSERT INTO t (a) SELECT repeat('x', 1000) FROM generate_series(1, 200)")
    config = dumper.write_config()
    run = subprocess.run(
        [sys.executable, "-c", code, "run", "--once", "-c", str(config)], capture_output=True, text=True
    )
    assert run.returncode == 1
    assert "File too large" in run.stderr
    with dumper.database.connect() as admin:
        assert admin.execute("SELECT count(*) FROM datastore_dumper.dump_status").fetchone() == (0,)
    assert dumper.once() == 0
    collect_all(dumper.database, dumper.storage)
    assert orphans(dumper.database, dumper.storage) == []


def test_only_postgres_and_a_clock_that_never_jumps_decide(dumper: Dumper, writer, tmp_path: Path) -> None:
    """The daemon's own wall clock leaps by days while it runs, both ways; another daemon's is right."""
    if not LIBFAKETIME.exists():
        message = f"{LIBFAKETIME} is missing: apt-get install faketime"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    clock = tmp_path / "clock"
    clock.write_text("+0")
    env = {
        "LD_PRELOAD": str(LIBFAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    with dumper.running(env) as daemon:
        daemon.wait_for("published", resource_id="t", rows=0)
        for rows, jump in enumerate(["+3d", "-3d", "+400d", "+0"], 1):
            clock.write_text(jump)
            writer.execute("INSERT INTO t (a) VALUES ('x')")
            daemon.wait_for("published", resource_id="t", rows=rows)
            assert dumper.file("t") == b"_id,a\r\n" + b"".join(b"%d,x\n" % number for number in range(1, rows + 1))
        assert daemon.all("lease_lost") == []
        first, last = daemon.events[0], daemon.all("published")[-2]
        assert last["timestamp"] > first["timestamp"][:4] + "-12-31", "its clock did not jump"
    with dumper.running() as other:
        writer.execute("INSERT INTO t (a) VALUES ('x')")
        other.wait_for("published", resource_id="t", rows=5)
