"""Heartbeats: a call after each healthy round, none after others, and nothing that the called does harms the daemon."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg
import pytest

from datastore_dumper.monitor.heartbeat import Heartbeat
from tests.support.daemon import Dumper
from tests.support.ports import free_port
from tests.support.waiting import eventually
from tests.support.watching import Watched, fetch

SECRET = "s3cr3t-0f3a"
EVERY_SECOND = {"reconcile_interval_seconds": 1}


class Alarm:
    """Who is called. It notes the requests and answers as it is told."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.status = 200
        alarm = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                alarm.requests.append(f"{self.path} {self.headers['User-Agent']}")
                if alarm.status == 0:
                    release.wait(90)
                    return
                self.send_response(alarm.status)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                return

        release = self.release = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/{SECRET}?key={SECRET}"


@pytest.fixture
def alarm() -> Iterator[Alarm]:
    found = Alarm()
    yield found
    found.release.set()
    found.server.shutdown()
    found.server.server_close()


def test_a_call_after_each_healthy_round(
    dumper: Dumper, writer: psycopg.Connection, watched: Watched, alarm: Alarm
) -> None:
    with dumper.running(monitor={**watched.settings, "heartbeat_url": alarm.url}, look=EVERY_SECOND) as daemon:
        eventually(lambda: len(alarm.requests) >= 3)
        assert alarm.requests[0].startswith(f"/{SECRET}?key={SECRET} datastore-dumper/")
        files = dumper.directory / "files"
        parked = files.rename(dumper.directory / "parked")
        daemon.wait_for("storage_unverified")
        calls = len(alarm.requests)
        daemon.wait_for("storage_unverified", 4)
        assert len(alarm.requests) <= calls + 1, "none while it cannot do its work (one may have been on its way)"
        parked.rename(files)
        eventually(lambda: len(alarm.requests) >= calls + 3)
        alarm.status = 500
        failed = daemon.wait_for("heartbeat_failed")
        assert failed["error"] == "the answer was 500"
        assert fetch(f"http://{watched.address}/readyz")[0] == 200
        assert watched.metrics()["heartbeats_total", "failed"] >= 1
        assert not any(SECRET in json.dumps(event) for event in daemon.events)


def test_who_does_not_answer_holds_nobody_up(dumper: Dumper, writer: psycopg.Connection, alarm: Alarm) -> None:
    alarm.status = 0
    with dumper.running(monitor={"heartbeat_url": alarm.url}, look=EVERY_SECOND) as daemon:
        eventually(lambda: alarm.requests)
        writer.execute("INSERT INTO t (a) VALUES ('x')")
        daemon.wait_for("published", resource_id="t", rows=1)
        assert daemon.terminate() == 0


@pytest.mark.parametrize(
    "url",
    [f"http://127.0.0.1:{free_port()}/{SECRET}", f"http://name.invalid/{SECRET}", f"https://127.0.0.1:1/{SECRET}"],
    ids=["closed", "no name", "no https"],  # of a port that differs, processes that share the tests would disagree
)
def test_who_is_not_there(url: str) -> None:
    error = Heartbeat(url)._call()
    assert error
    assert SECRET not in error


def test_an_answer_that_is_no_http() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(f"{SECRET} nonsense\r\n\r\n".encode())

        thread = threading.Thread(target=answer)
        thread.start()
        error = Heartbeat(f"http://127.0.0.1:{server.getsockname()[1]}/{SECRET}")._call()
        thread.join()
    assert error == "BadStatusLine"
