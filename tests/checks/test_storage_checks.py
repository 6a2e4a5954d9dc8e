"""`check` of an S3 service: what browsers do with links is tried, and what nobody should be able to do is refused."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from tests.checks.conftest import Results
from tests.support.daemon import Dumper
from tests.support.seaweedfs import S3Server


@pytest.fixture
def s3_storage(installed: Dumper, s3_server: S3Server, s3_bucket: str) -> dict[str, Any]:
    installed.settings["storage"] = {
        "type": "s3",
        "s3": {
            "endpoint": s3_server.endpoint,
            "secure": s3_server.secure,
            "bucket": s3_bucket,
            "access_key": s3_server.access_key,
            "secret_key": s3_server.secret_key,
        },
    }
    return installed.settings["storage"]["s3"]


@pytest.fixture
def careless_endpoint(s3_server: S3Server) -> Iterator[str]:
    """A public endpoint that hands out everything, whatever the signature."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            bucket, _, name = unquote(urlsplit(self.path).path).lstrip("/").partition("/")
            answer = s3_server.client().get_object(bucket, name)
            data = answer.read()
            answer.close()
            answer.release_conn()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def objects(s3_server: S3Server, bucket: str) -> list[str]:
    return [str(item.object_name) for item in s3_server.client().list_objects(bucket, recursive=True)]


def test_all_is_well(results: Results, s3_storage: dict[str, Any], s3_server: S3Server) -> None:
    found = results()
    names = {"round_trip", "link", "clock", "tampered_link", "private"}
    assert {name: found[f"storage.{name}"].status for name in names} == dict.fromkeys(names, "ok")
    assert objects(s3_server, s3_storage["bucket"]) == []


def test_an_endpoint_that_verifies_no_signature(
    results: Results, s3_storage: dict[str, Any], careless_endpoint: str, s3_server: S3Server
) -> None:
    s3_storage.update(public_endpoint=careless_endpoint, public_secure=False)
    found = results()
    assert found["storage.link"].status == "ok"
    assert found["storage.tampered_link"].status == "failed"
    assert "does not verify signatures" in found["storage.tampered_link"].mend
    assert found["storage.private"].status == "failed"
    assert objects(s3_server, s3_storage["bucket"]) == []


def test_a_public_endpoint_that_is_not_there(results: Results, s3_storage: dict[str, Any]) -> None:
    s3_storage.update(public_endpoint="127.0.0.1:1", public_secure=False)
    found = results()["storage.link"]
    assert found.status == "warning"
    assert "public_endpoint" in found.mend
    assert "X-Amz" not in found.found


def test_a_public_endpoint_that_is_another_service(
    results: Results, s3_storage: dict[str, Any], s3_server: S3Server
) -> None:
    """The signature is for a host of another name."""
    s3_storage.update(public_endpoint=s3_server.endpoint.replace("127.0.0.1", "localhost"), region="eu-central-1")
    s3_storage["secret_key"] = "wrong"
    found = results()
    assert found["storage.round_trip"].status == "failed"
    assert "storage.link" not in found
