"""What the real daemon tells systemd: the datagrams of sd_notify(3), in the order of its life."""

from __future__ import annotations

import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from datastore_dumper.failpoints import VARIABLE
from datastore_dumper.monitor.service_manager import ServiceManager
from tests.support.daemon import Dumper
from tests.support.waiting import eventually
from tests.support.watching import Watched

WAIT_SECONDS = 30
SILENCE_SECONDS = 5  # the main thread speaks every second

Message = dict[str, str]


class Manager:
    """Who listens at $NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self.messages: list[Message] = []
        self.environ = {"NOTIFY_SOCKET": address}
        self._news = threading.Condition()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0", 1))
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while data := self._socket.recv(4096):
            with self._news:
                self.messages.append(dict(line.split("=", 1) for line in data.decode().split("\n")))
                self._news.notify_all()

    def wait_for(self, condition: Callable[[Message], bool], after: int = 0) -> int:
        """The number of the first message like that, counted from `after` on."""
        with self._news:
            self._news.wait_for(lambda: any(map(condition, self.messages[after:])), WAIT_SECONDS)
            for number, message in enumerate(self.messages[after:], after):
                if condition(message):
                    return number
            pytest.fail(f"not told: {self.messages[-5:]}")

    def hears(self, condition: Callable[[Message], bool], seconds: float) -> bool:
        """Whether there is another message like that within so many seconds from now."""
        with self._news:
            before = len(self.messages)
            return self._news.wait_for(lambda: any(map(condition, self.messages[before:])), seconds)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RD)
        self._socket.close()


@contextmanager
def listening(address: str) -> Iterator[Manager]:
    manager = Manager(address)
    try:
        yield manager
    finally:
        manager.close()


@pytest.fixture(params=["file", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    address = str(tmp_path / "notify") if request.param == "file" else f"@datastore-dumper-{secrets.token_hex(8)}"
    with listening(address) as found:
        yield found


def has(**values: str) -> Callable[[Message], bool]:
    return lambda message: values.items() <= message.items()


def test_the_life_of_a_daemon(dumper: Dumper, writer: psycopg.Connection, manager: Manager) -> None:
    with dumper.running(manager.environ) as daemon:
        ready = manager.wait_for(has(READY="1"))
        assert "tables: " in manager.messages[ready]["STATUS"]
        assert not any("WATCHDOG" in message for message in manager.messages[:ready]), "not before it is ready"
        daemon.wait_for("published", resource_id="t")
        manager.wait_for(has(WATCHDOG="1"), ready)
        idle = "ready; tables: 0 exporting, 0 failing, 0 due, 0 waiting"
        manager.wait_for(lambda message: message.get("STATUS") == idle, ready)

        before = len(manager.messages)
        earliest = time.monotonic() * 1e6
        daemon.process.send_signal(signal.SIGHUP)
        reloading = manager.wait_for(has(RELOADING="1"), before)
        assert earliest <= int(manager.messages[reloading]["MONOTONIC_USEC"]) <= time.monotonic() * 1e6
        manager.wait_for(has(READY="1"), reloading)

        dumper.write_config(debounce={"quiet_seconds": "soon"})
        before = len(manager.messages)
        daemon.process.send_signal(signal.SIGHUP)
        again = manager.wait_for(has(READY="1"), manager.wait_for(has(RELOADING="1"), before))
        assert manager.messages[again]["STATUS"].startswith("degraded (config); "), "it goes on with what it has"

        before = len(manager.messages)
        assert daemon.terminate() == 0
        stopping = manager.wait_for(has(STOPPING="1"), before)
        assert int(manager.messages[stopping]["EXTEND_TIMEOUT_USEC"]) > 20_000_000, (
            "longer than shutdown_timeout_seconds"
        )
        assert not any("READY" in message for message in manager.messages[stopping:])


def test_a_loop_that_is_stuck_is_not_called_alive(
    dumper: Dumper, writer: psycopg.Connection, watched: Watched, tmp_path: Path
) -> None:
    """All other threads go on, and it answers requests: only the loop that looks for due tables waits for a lock."""
    with (
        listening(str(tmp_path / "notify")) as manager,
        dumper.running(manager.environ, monitor=watched.settings, look={"interval_seconds": 0.2}) as daemon,
    ):
        daemon.wait_for("published", resource_id="t")
        manager.wait_for(has(WATCHDOG="1"))
        with dumper.database.connect() as admin, admin.transaction():
            admin.execute("LOCK TABLE datastore_dumper.change IN ACCESS EXCLUSIVE MODE")
            waits = "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'datastore_dumper.change'::regclass"
            eventually(lambda: admin.execute(waits).fetchone(), timeout=WAIT_SECONDS)
            # What was on its way may still come.
            eventually(lambda: not manager.hears(has(WATCHDOG="1"), SILENCE_SECONDS), timeout=WAIT_SECONDS)
            told = len(manager.messages)
            assert watched.alive(), "not for so long that it is given up"
        manager.wait_for(has(WATCHDOG="1"), told)


def test_what_systemd_does_with_one_that_is_stuck_brings_it_back(
    dumper: Dumper, writer: psycopg.Connection, tmp_path: Path
) -> None:
    """WatchdogSec= over: SIGABRT, and another start. The tests have no systemd, so they do it."""
    with listening(str(tmp_path / "notify")) as manager:
        with dumper.running(manager.environ) as stuck, dumper.database.connect() as admin:
            stuck.wait_for("published", resource_id="t")
            with admin.transaction():
                admin.execute("LOCK TABLE datastore_dumper.change IN ACCESS EXCLUSIVE MODE")
                waits = "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'datastore_dumper.change'::regclass"
                eventually(lambda: admin.execute(waits).fetchone(), timeout=WAIT_SECONDS)
                stuck.process.send_signal(signal.SIGABRT)
                assert stuck.process.wait(WAIT_SECONDS) == -signal.SIGABRT
        again = len(manager.messages)
        writer.execute("INSERT INTO t (a) VALUES ('x')")
        with dumper.running(manager.environ) as restarted:
            restarted.wait_for("published", resource_id="t", rows=1)
            manager.wait_for(has(WATCHDOG="1"), manager.wait_for(has(READY="1"), again))


def test_while_exports_finish_it_is_alive(dumper: Dumper, writer: psycopg.Connection, tmp_path: Path) -> None:
    """systemd's watchdog goes on while a service stops."""
    paused = {VARIABLE: f"after_snapshot=pause:{tmp_path}"}
    with (
        listening(str(tmp_path / "notify")) as manager,
        dumper.running({**manager.environ, **paused}) as daemon,
    ):
        eventually((tmp_path / "after_snapshot").exists, timeout=WAIT_SECONDS)
        daemon.process.send_signal(signal.SIGTERM)
        stopping = manager.wait_for(has(STOPPING="1"))
        second = manager.wait_for(has(WATCHDOG="1"), stopping)
        manager.wait_for(has(WATCHDOG="1"), second + 1)
        (tmp_path / "after_snapshot.release").touch()
        assert daemon.process.wait(WAIT_SECONDS) == 0
    assert daemon.all("published", resource_id="t")


@pytest.mark.parametrize("address", ["", "relative", "vsock:2:1234"])
def test_nobody_to_tell(address: str) -> None:
    told = ServiceManager({"NOTIFY_SOCKET": address} if address else {})
    told.ready("ready")
    told.alive()


def test_a_manager_that_is_gone_is_no_reason_to_fail(
    dumper: Dumper, writer: psycopg.Connection, tmp_path: Path
) -> None:
    with dumper.running({"NOTIFY_SOCKET": str(tmp_path / "nobody")}) as daemon:
        daemon.wait_for("published", resource_id="t")
        daemon.wait_for("service_manager_unreachable")
