"""A role that is assumed. AWS alone has this service, so a stand-in answers for it: S3 itself is real."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import pytest

from datastore_dumper.errors import ConfigError
from datastore_dumper.storage.s3_credentials import credentials_of
from datastore_dumper.storage.settings import S3Settings

ROLE = "arn:aws:iam::123456789012:role/ckan-dumps"
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
        credentials = credentials_of(dataclasses.replace(SETTINGS, endpoint=endpoint))
        found = [credentials.retrieve() for _ in range(2)][-1]
    assert (found.access_key, found.secret_key, found.session_token) == ("temporary", "hush", "token")
    assert len(asked) == times
    assert (asked[0]["Action"], asked[0]["RoleArn"]) == (["AssumeRole"], [ROLE])


def test_a_refusal_names_the_role_and_shows_nothing_that_was_answered() -> None:
    with token_service(403, timedelta()) as (endpoint, _):
        credentials = credentials_of(dataclasses.replace(SETTINGS, endpoint=endpoint))
        with pytest.raises(ConfigError, match=ROLE) as caught:
            credentials.retrieve()
    assert "hush" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_role_needs_keys() -> None:
    with pytest.raises(ConfigError, match=r"storage\.s3\.access_key"):
        credentials_of(dataclasses.replace(SETTINGS, access_key="", secret_key=""))
