"""What tests of `check` have in common: a DataStore with one table, as it must be, and the results by their names."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from datastore_dumper.checks.results import Result, Subject
from datastore_dumper.checks.run import run_checks
from datastore_dumper.cli.options import database_of
from datastore_dumper.config import load
from datastore_dumper.config.storage import storage_settings
from datastore_dumper.install import install
from datastore_dumper.storage.settings import open_storage
from tests.support.daemon import Dumper
from tests.support.datastore import create_table
from tests.support.installation import ROLES, handle

Results = Callable[..., dict[str, Result]]


class Portal(ThreadingHTTPServer):
    """What a CKAN answers to status_show."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Status)
        self.status: object = {"ckan_version": "2.12.3", "extensions": ["datastore_dumper", "datastore"]}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Status(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Portal)
        found = self.path == "/api/3/action/status_show"
        body = json.dumps({"success": found, "result": self.server.status}).encode()
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@pytest.fixture
def portal() -> Iterator[Portal]:
    """A web server that says it is CKAN. A real one is asked in tests/ckan."""
    server = Portal()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def installed(dumper: Dumper, portal: Portal) -> Dumper:
    install(handle(dumper.database), ROLES)
    dumper.settings["ckan"] = {"url": portal.url}
    with dumper.database.connect("ckan_write") as writer:
        create_table(writer, "t", {"a": "text"})
    return dumper


@pytest.fixture
def results(dumper: Dumper) -> Results:
    """All results for the configuration with these sections, each name once."""

    def run(**sections: dict[str, Any]) -> dict[str, Result]:
        path = dumper.write_config(**sections)
        path.chmod(0o600)
        loaded = load(path, {})
        subject = Subject(loaded, database_of(loaded.config), open_storage(storage_settings(loaded.config)))
        found = list(run_checks(subject))
        assert len({result.name for result in found}) == len(found), found
        for result in found:
            assert (result.status == "ok") == (not result.mend), result
            assert (result.status == "failed") == bool(result.exit_code), result
        return {result.name: result for result in found}

    return run
