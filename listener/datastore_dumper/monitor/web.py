"""A small web server for whoever watches the daemon: /livez, /readyz and /metrics. It says nothing about single resources.

Handlers read what is in memory and ask neither Postgres nor the storage, so a scrape costs them nothing.
"""

from __future__ import annotations

import errno
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from datastore_dumper import __version__
from datastore_dumper.errors import ConfigError, DumperError, PermissionDeniedError, UnavailableError
from datastore_dumper.logs import get_logger, mask_text
from datastore_dumper.monitor import metrics
from datastore_dumper.monitor.health import Health

log = get_logger(__name__)

_REQUEST_SECONDS = 5  # for a client to send its request and to take the answer
_JSON = "application/json"

_Answer = tuple[HTTPStatus, str, bytes]
"""Status, content type, body."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], answers: dict[str, Callable[[], _Answer]]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.answers = answers
        super().__init__(address, _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        log.debug("request_failed", exc_info=True)  # a client that went away


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _REQUEST_SECONDS
    server_version = f"datastore-dumper/{__version__}"
    sys_version = ""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        answer = self.server.answers.get(path)
        status, content_type, body = (
            answer() if answer else (HTTPStatus.NOT_FOUND, "text/plain", b"/livez /readyz /metrics\n")
        )
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:
        log.debug("request_answered", request=format % args)


@contextmanager
def serving(listen: str | None, health: Health, write_gauges: Callable[[], None]) -> Iterator[None]:
    """Answer at `listen` (host:port) during the block; nowhere if it is None. `write_gauges` comes before each scrape.

    Raises `DumperError` if that address is not to be had.
    """
    if listen is None:
        yield
        return

    def livez() -> _Answer:
        alive = health.is_alive
        status = HTTPStatus.OK if alive else HTTPStatus.SERVICE_UNAVAILABLE
        return status, _JSON, _json({"status": "alive" if alive else "stuck"})

    def readyz() -> _Answer:
        verdict = health.verdict()
        status = HTTPStatus.SERVICE_UNAVAILABLE if verdict.status == "unready" else HTTPStatus.OK
        reasons = [{"code": each.code, "message": mask_text(each.message)} for each in verdict.reasons]
        return status, _JSON, _json({"status": verdict.status, "reasons": reasons})

    def all_metrics() -> _Answer:
        write_gauges()
        return HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(metrics.REGISTRY)

    server = _open(listen, {"/livez": livez, "/readyz": readyz, "/metrics": all_metrics})
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.5}, name="web", daemon=True)
    thread.start()
    log.info("monitor_listening", address=listen)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def _open(listen: str, answers: dict[str, Callable[[], _Answer]]) -> _Server:
    host, _, port = listen.rpartition(":")
    try:
        return _Server((host.strip("[]"), int(port)), answers)
    except OSError as error:
        raise _explained(listen, error) from error


def _explained(listen: str, error: OSError) -> DumperError:
    message = f"monitor.listen: cannot listen at {listen}: {error.strerror}"
    if error.errno == errno.EADDRINUSE:
        return UnavailableError(message, hint="Another program, perhaps another daemon, is there: choose another port.")
    if error.errno == errno.EACCES:
        return PermissionDeniedError(message, hint="Choose a port above 1023.")
    return ConfigError(message, hint="Write an address of this machine and a port, like 127.0.0.1:9878.")


def _json(value: object) -> bytes:
    return json.dumps(value).encode() + b"\n"
