"""A role that is assumed. AWS alone has this service, so a stand-in answers for it: S3 itself is real."""

from __future__ import annotations

import dataclasses
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import parse_qs

import pytest
from urllib3 import PoolManager
from urllib3.exceptions import HTTPError

from datastore_dumper.errors import EXIT_UNAVAILABLE, ConfigError, StorageUnavailableError
from datastore_dumper.storage.base import ObjectHeaders
from datastore_dumper.storage.s3_credentials import credentials_of
from datastore_dumper.storage.settings import S3Settings, open_storage
from tests.support.faulty_front import Answer, front

ROLE = "arn:aws:iam::123456789012:role/ckan-dumps"
REGION = "eu-west-1"
ANSWER = """<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>
<AccessKeyId>temporary</AccessKeyId><SecretAccessKey>hush</SecretAccessKey><SessionToken>token</SessionToken>
<Expiration>{expiration}</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"""


@contextmanager
def token_service(status: int, lifetime: timedelta) -> Iterator[tuple[str, list[dict[str, list[str]]]]]:
    asked: list[dict[str, list[str]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode()))
            expiration = f"{datetime.now(timezone.utc) + lifetime:%Y-%m-%dT%H:%M:%SZ}"
            body = ANSWER.format(expiration=expiration).encode() if status == 200 else b"<Error>hush</Error>"
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


SETTINGS = S3Settings("unset", "dumps", secure=False, access_key="key", secret_key="secret", role=ROLE)


@pytest.mark.parametrize(("lifetime", "times"), [(timedelta(hours=1), 1), (timedelta(seconds=-1), 2)])
def test_a_role_is_assumed_and_again_when_its_credentials_expire(lifetime: timedelta, times: int) -> None:
    with token_service(200, lifetime) as (endpoint, asked):
        credentials = credentials_of(dataclasses.replace(SETTINGS, endpoint=endpoint), REGION)
        found = [credentials.retrieve() for _ in range(2)][-1]
    assert (found.access_key, found.secret_key, found.session_token) == ("temporary", "hush", "token")
    assert len(asked) == times
    assert (asked[0]["Action"], asked[0]["RoleArn"]) == (["AssumeRole"], [ROLE])


def test_a_refusal_names_the_role_and_shows_nothing_that_was_answered() -> None:
    with token_service(403, timedelta()) as (endpoint, _):
        credentials = credentials_of(dataclasses.replace(SETTINGS, endpoint=endpoint), REGION)
        with pytest.raises(ConfigError, match=ROLE) as caught:
            credentials.retrieve()
    assert "hush" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_role_needs_keys() -> None:
    with pytest.raises(ConfigError, match=r"storage\.s3\.access_key"):
        credentials_of(dataclasses.replace(SETTINGS, access_key="", secret_key=""), REGION)


def test_a_service_that_cannot_answer_now_is_asked_again_and_is_no_fault_of_the_configuration() -> None:
    with token_service(503, timedelta()) as (endpoint, asked):
        credentials = credentials_of(dataclasses.replace(SETTINGS, endpoint=endpoint), REGION)
        with pytest.raises(StorageUnavailableError, match=ROLE) as caught:
            credentials.retrieve()
    assert len(asked) == 2
    assert caught.value.exit_code == EXIT_UNAVAILABLE
    assert "503" in caught.value.message
    assert "hush" not in str(caught.value)


def test_a_service_that_is_not_there() -> None:
    credentials = credentials_of(dataclasses.replace(SETTINGS, endpoint="127.0.0.1:1"), REGION)
    with pytest.raises(StorageUnavailableError, match=ROLE):
        credentials.retrieve()


@pytest.mark.parametrize("by_variable", [True, False])
def test_a_service_with_an_authority_of_ones_own(
    certificate: Path, monkeypatch: pytest.MonkeyPatch, by_variable: bool
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    body = ANSWER.format(expiration=f"{datetime.now(timezone.utc) + timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}")
    with front("nobody", tls) as service:
        service.fault = lambda request: Answer(200, body.encode())
        settings = dataclasses.replace(SETTINGS, endpoint=service.endpoint, secure=True)
        with pytest.raises(ConfigError, match="CERTIFICATE_VERIFY_FAILED") as caught:
            credentials_of(settings, REGION).retrieve()
        assert "storage.s3.ca_file" in caught.value.hint
        authority = certificate.with_name("cert.pem")
        if by_variable:
            monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        else:
            settings = dataclasses.replace(settings, ca_file=authority)
        assert credentials_of(settings, REGION).retrieve().access_key == "temporary"


@pytest.mark.parametrize(
    ("endpoint", "region", "url", "signed_for"),
    [
        ("s3.amazonaws.com", "", "https://sts.us-east-1.amazonaws.com", "us-east-1"),
        ("s3.eu-north-1.amazonaws.com", "", "https://sts.eu-north-1.amazonaws.com", "eu-north-1"),
        ("s3.cn-north-1.amazonaws.com.cn", "", "https://sts.cn-north-1.amazonaws.com.cn", "cn-north-1"),
        ("s3.amazonaws.com", "eu-west-1", "https://sts.eu-west-1.amazonaws.com", "eu-west-1"),
        ("minio.example.org", "zh-1", "https://minio.example.org", "zh-1"),
    ],
)
def test_where_a_role_is_assumed(
    monkeypatch: pytest.MonkeyPatch, endpoint: str, region: str, url: str, signed_for: str
) -> None:
    """In the region of the bucket, which an AWS endpoint has in its name."""
    asked: list[tuple[str, str]] = []

    def urlopen(self: PoolManager, method: str, url: str, **options: Any) -> NoReturn:
        asked.append((url, options["headers"]["Authorization"]))
        raise HTTPError("no network here")

    monkeypatch.setattr(PoolManager, "urlopen", urlopen)
    storage = open_storage(dataclasses.replace(SETTINGS, endpoint=endpoint, region=region, secure=True))
    with pytest.raises(StorageUnavailableError):
        storage.link("t", ObjectHeaders("text/csv", "t.csv"), 60)
    ((where, authorization),) = asked
    assert where == url
    assert f"/{signed_for}/sts/aws4_request" in authorization
