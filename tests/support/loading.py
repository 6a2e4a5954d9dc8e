"""What loads tables in a real CKAN: its job worker with ckanext-xloader, and a web server with the files to load."""

from __future__ import annotations

import http.server
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from datastore_dumper.demo.child import start_child, stop_child
from tests.support.ckan_site import CkanSite
from tests.support.waiting import eventually

JOB_SECONDS = 120


class FileServer:
    """Serves one file, whatever the path; `content` may be replaced."""

    def __init__(self) -> None:
        self.content = b""
        self.url = ""


@contextmanager
def file_server() -> Iterator[FileServer]:
    state = FileServer()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = state.content
            self.send_response(200)
            self.send_header("Content-Type", "text/csv")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}/data.csv"
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def job_worker(site: CkanSite) -> Iterator[Path]:
    """`ckan jobs worker` of the site. Gives its log."""
    log = site.directory / "worker.log"
    environment = site.platform.environment
    with log.open("ab") as output:
        process = start_child(
            [
                environment.python,
                "-I",
                "-u",
                environment.directory / "bin" / "ckan",
                "-c",
                site.directory / "ckan.ini",
                "jobs",
                "worker",
            ],
            env=environment.environ(),
            cwd=site.directory,
            output=output,
        )
    try:
        yield log
        assert process.poll() is None, log.read_text()
    finally:
        # Twice: it would finish the job that it is at.
        stop_child(process, ((signal.SIGTERM, 5.0), (signal.SIGTERM, 10.0)))


def wait_for_load(site: CkanSite, resource_id: str) -> None:
    """Until xloader is done with the resource. Fails with what it says if it failed."""

    def is_done() -> bool:
        status = site.action("xloader_status", resource_id=resource_id)
        if status["status"] == "error":
            raise RuntimeError(f"xloader failed: {status}\n{(site.directory / 'worker.log').read_text()[-4000:]}")
        return bool(status["status"] == "complete")

    eventually(is_done, timeout=JOB_SECONDS, interval=0.2)
