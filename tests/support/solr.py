"""A stand-in for Solr: takes what CKAN indexes, finds nothing, and says that its schema is CKAN's.

CKAN reads a dataset from its database when the index does not have it (package_show in ckan/logic/action/get.py), so
nothing but searches depends on what Solr finds.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_CORE = "/solr/ckan"
# check_solr_schema_version in ckan/lib/search/__init__.py looks at the name alone. CKAN 2.10 to 2.12 take this one.
_SCHEMA = b'<?xml version="1.0" encoding="UTF-8"?>\n<schema name="ckan-2.11" version="1.6"/>\n'
_ACCEPTED = {"responseHeader": {"status": 0, "QTime": 0}}
_NOTHING_FOUND = {
    **_ACCEPTED,
    "response": {"numFound": 0, "start": 0, "docs": []},
    "facet_counts": {"facet_queries": {}, "facet_fields": {}, "facet_ranges": {}, "facet_intervals": {}},
}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = urlsplit(self.path).path.rstrip("/")
        if path == f"{_CORE}/schema":
            self._answer(200, "application/xml", _SCHEMA)
        elif path == f"{_CORE}/select":
            self._answer(200, "application/json", json.dumps(_NOTHING_FOUND).encode())
        elif path == f"{_CORE}/update":
            self._answer(200, "application/json", json.dumps(_ACCEPTED).encode())
        else:
            self._answer(404, "text/plain", f"not a Solr path that CKAN asks for: {path}\n".encode())

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.do_GET()

    def _answer(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: CKAN logs what fails."""


@contextmanager
def solr_stand_in() -> Iterator[str]:
    """URL of a core on a free loopback port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, name="solr stand-in", daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}{_CORE}"
        finally:
            server.shutdown()
            thread.join()
