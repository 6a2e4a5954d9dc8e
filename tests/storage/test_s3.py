"""What only S3 has: links, settings that are wrong, and what an operator is told."""

from __future__ import annotations

import dataclasses
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import urllib3

from datastore_dumper.errors import (
    ConfigError,
    DumperError,
    ObjectChangedError,
    ObjectMissingError,
    PermissionDeniedError,
    StorageError,
    StorageUnavailableError,
)
from datastore_dumper.storage.base import BytesPart, ObjectHeaders, ReusePart
from datastore_dumper.storage.s3 import S3Storage
from datastore_dumper.storage.settings import MIB, S3Settings, open_storage
from tests.support.faulty_front import Answer, Front, Request, error, front
from tests.support.seaweedfs import S3Server

HEADERS = ObjectHeaders("text/csv; charset=utf-8", 'täble "1" (2).csv')


@pytest.fixture
def http() -> Iterator[urllib3.PoolManager]:
    pool = urllib3.PoolManager(retries=False, timeout=90)
    yield pool
    pool.clear()


def test_a_link_hands_out_the_object(s3: S3Storage, http: urllib3.PoolManager) -> None:
    s3.write("t/1/ä =2E%.csv", [BytesPart(b"0123456789")], HEADERS)
    link = s3.link("t/1/ä =2E%.csv", HEADERS, 60)
    assert link is not None
    response = http.request("GET", link)
    assert (response.status, response.data) == (200, b"0123456789")
    assert response.headers["content-type"] == HEADERS.content_type
    assert response.headers["content-disposition"] == (
        "attachment; filename=\"table _1_ _2_.csv\"; filename*=UTF-8''t%C3%A4ble%20_1_%20%282%29.csv"
    )
    part = http.request("GET", link, headers={"Range": "bytes=2-4"})
    assert (part.status, part.data) == (206, b"234")


def test_the_headers_are_kept_with_the_object(s3: S3Storage, s3_server: S3Server) -> None:
    s3.write("t/1/small.csv", [BytesPart(b"x")], HEADERS)
    s3.write("t/1/large.csv", [BytesPart(bytes(17 << 20))], HEADERS)
    for key in ("t/1/small.csv", "t/1/large.csv"):
        found = s3_server.client().stat_object(s3.settings.bucket, f"dumps/portal/{key}")
        assert found.content_type == HEADERS.content_type
        assert found.metadata is not None
        assert found.metadata["Content-Disposition"].startswith('attachment; filename="table _1_ _2_.csv"')


def test_nobody_gets_an_object_without_a_link(s3: S3Storage, http: urllib3.PoolManager) -> None:
    s3.write("t/1/t.csv", [BytesPart(b"content")], HEADERS)
    link = s3.link("t/1/t.csv", HEADERS, 60)
    assert http.request("GET", str(link).partition("?")[0]).status == 403


@pytest.mark.parametrize(
    "change",
    [
        lambda link: link[:-1] + ("0" if link[-1] != "0" else "1"),
        lambda link: link.replace("X-Amz-Expires=60", "X-Amz-Expires=6000"),
        lambda link: link.replace("t/1/t.csv", "t/2/t.csv"),
        lambda link: link.replace("text%2Fcsv", "text%2Fhtml"),
    ],
    ids=["signature", "expiry", "key", "content type"],
)
def test_a_changed_link_is_refused(s3: S3Storage, http: urllib3.PoolManager, change: Callable[[str], str]) -> None:
    s3.write("t/1/t.csv", [BytesPart(b"1")], HEADERS)
    s3.write("t/2/t.csv", [BytesPart(b"2")], HEADERS)
    link = str(s3.link("t/1/t.csv", HEADERS, 60))
    assert http.request("GET", link).status == 200
    assert change(link) != link
    assert http.request("GET", change(link)).status == 403


def test_a_link_expires(s3: S3Storage, http: urllib3.PoolManager, monkeypatch: pytest.MonkeyPatch) -> None:
    s3.write("t/1/t.csv", [BytesPart(b"content")], HEADERS)
    past = datetime.now(timezone.utc) - timedelta(seconds=90)
    monkeypatch.setattr("minio.time.utcnow", lambda: past)
    assert http.request("GET", str(s3.link("t/1/t.csv", HEADERS, 60))).status == 403
    assert http.request("GET", str(s3.link("t/1/t.csv", HEADERS, 600))).status == 200


@pytest.mark.parametrize("seconds", [0, -1, 7 * 24 * 3600 + 1])
def test_how_long_a_link_may_hold(s3: S3Storage, seconds: int) -> None:
    with pytest.raises(ConfigError, match=f"{seconds} s"):
        s3.link("t/1/t.csv", HEADERS, seconds)


OFFLINE = S3Settings(endpoint="s3.internal.invalid", bucket="dumps", access_key="key", secret_key="secret")


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    ("changes", "url", "region"),
    [
        ({}, "https://s3.internal.invalid/dumps/t", "us-east-1"),
        ({"prefix": "/a/b/"}, "https://s3.internal.invalid/dumps/a/b/t", "us-east-1"),
        ({"secure": False, "endpoint": "10.0.0.1:9000"}, "http://10.0.0.1:9000/dumps/t", "us-east-1"),
        ({"public_endpoint": "files.example.org"}, "https://files.example.org/dumps/t", "us-east-1"),
        (
            {"public_endpoint": "files.example.org", "public_secure": False, "region": "zh-1"},
            "http://files.example.org/dumps/t",
            "zh-1",
        ),
        ({"addressing_style": "virtual"}, "https://dumps.s3.internal.invalid/t", "us-east-1"),
        ({"endpoint": "s3.eu-west-1.amazonaws.com"}, "https://dumps.s3.eu-west-1.amazonaws.com/t", "eu-west-1"),
        ({"endpoint": "s3.amazonaws.com"}, "https://dumps.s3.us-east-1.amazonaws.com/t", "us-east-1"),
        (
            {"endpoint": "s3.amazonaws.com", "region": "eu-north-1", "addressing_style": "path"},
            "https://s3.eu-north-1.amazonaws.com/dumps/t",
            "eu-north-1",
        ),
    ],
)
def test_links_are_made_without_the_network(changes: dict[str, object], url: str, region: str) -> None:
    link = open_storage(dataclasses.replace(OFFLINE, **changes)).link("t", HEADERS, 60)
    assert str(link).partition("?")[0] == url
    assert parse_qs(urlsplit(str(link)).query)["X-Amz-Credential"][0].split("/")[2] == region


def test_the_public_endpoint_is_where_links_lead(s3: S3Storage, faulty: Front, http: urllib3.PoolManager) -> None:
    s3.write("t/1/t.csv", [BytesPart(b"content")], HEADERS)
    public = S3Storage(dataclasses.replace(s3.settings, public_endpoint=faulty.endpoint, public_secure=False))
    link = str(public.link("t/1/t.csv", HEADERS, 60))
    assert urlsplit(link).netloc == faulty.endpoint
    assert http.request("GET", link).data == b"content"
    assert public.stat("t/1/t.csv").length == 7
    assert faulty.operations() == ["get"]


def test_what_a_missing_bucket_says(s3: S3Storage) -> None:
    wrong = S3Storage(dataclasses.replace(s3.settings, bucket="no-such-bucket"))
    for operation in (wrong.check, lambda: wrong.write("t", [BytesPart(b"x")], HEADERS), lambda: list(wrong.list())):
        with pytest.raises(ConfigError, match="bucket 'no-such-bucket' does not exist") as error:
            operation()
        assert "storage.s3.bucket" in error.value.hint
    assert not s3._client._minio.bucket_exists("no-such-bucket")


@pytest.mark.parametrize(("field", "value"), [("secret_key", "wrong-secret"), ("access_key", "nobody")])
def test_what_wrong_keys_say(s3: S3Storage, field: str, value: str) -> None:
    wrong = S3Storage(dataclasses.replace(s3.settings, **{field: value}))
    with pytest.raises(PermissionDeniedError) as error:
        wrong.check()
    assert f"storage.s3.{field}" in error.value.hint
    # HEAD has no body that says why, so the hint names both.
    with pytest.raises(PermissionDeniedError) as error:
        wrong.stat("t")
    assert "storage.s3.secret_key" in error.value.hint
    assert s3.settings.secret_key not in str(error.value)


def test_what_a_server_that_is_not_there_says(s3: S3Storage) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{unused.getsockname()[1]}"
        wrong = S3Storage(dataclasses.replace(s3.settings, endpoint=endpoint))
        with pytest.raises(StorageUnavailableError, match=endpoint) as error:
            wrong.check()
    assert "storage.s3.endpoint" in error.value.hint


def test_what_a_server_that_never_answers_says(s3: S3Storage) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        endpoint = f"127.0.0.1:{deaf.getsockname()[1]}"
        wrong = S3Storage(dataclasses.replace(s3.settings, endpoint=endpoint, read_timeout_seconds=0.05))
        with pytest.raises(StorageUnavailableError, match=endpoint):
            wrong.stat("t")


def test_what_https_to_an_http_server_says(s3: S3Storage) -> None:
    with pytest.raises(ConfigError, match="cannot be reached") as error:
        S3Storage(dataclasses.replace(s3.settings, secure=True)).check()
    assert "storage.s3.secure" in error.value.hint


def test_https_with_an_authority_of_ones_own(s3: S3Storage, certificate: Path) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    with front(s3.settings.endpoint, tls) as state:
        settings = dataclasses.replace(s3.settings, endpoint=state.endpoint, secure=True, part_bytes=5 << 20)
        with pytest.raises(ConfigError, match="CERTIFICATE_VERIFY_FAILED") as error:
            S3Storage(settings).check()
        assert "storage.s3.ca_file" in error.value.hint
        trusting = S3Storage(dataclasses.replace(settings, ca_file=certificate.with_name("cert.pem")))
        trusting.check()
        assert trusting.write("t/1/t.csv", [BytesPart(bytes(11 << 20))], HEADERS).length == 11 << 20
        puts = [request for request in state.requests if request.operation in {"put", "part"}]
        assert len(puts) == 4
        # TLS protects the payload, which is hashed once, not twice.
        assert {request.headers["x-amz-content-sha256"] for request in puts} == {"UNSIGNED-PAYLOAD"}
        assert all("content-md5" in request.headers for request in puts)


@pytest.mark.parametrize(
    ("answer", "expected", "said"),
    [
        (Answer(503, b"<Error><Code>SlowDown</Code></Error>"), StorageUnavailableError, "SlowDown"),
        (Answer(500, b"<Error><Code>InternalError</Code></Error>"), StorageUnavailableError, "InternalError"),
        (Answer(502, b"<html>bad gateway</html>", "text/html"), StorageUnavailableError, "502"),
        (Answer(403, b"<Error><Code>AccessDenied</Code></Error>", "text/xml"), PermissionDeniedError, "403"),
        (Answer(403, b"<Error><Code>ExpiredToken</Code></Error>"), PermissionDeniedError, "session_token"),
        (Answer(403, b"<Error><Code>RequestTimeTooSkewed</Code></Error>"), StorageError, "clock"),
        (Answer(400, b"<Error><Code>AuthorizationHeaderMalformed</Code></Error>"), ConfigError, r"storage\.s3\.region"),
        (Answer(404, b"<Error><Code>NoSuchKey</Code></Error>"), ObjectMissingError, "NoSuchKey"),
        (Answer(404, b"not here", "text/plain"), ObjectMissingError, "404"),
        (Answer(400, b"Client sent an HTTP request to an HTTPS server.", "text/plain"), StorageError, "HTTPS server"),
        (Answer(400, b"", "text/plain"), StorageError, "400"),
        (Answer(418, b"<Error>", "application/xml"), StorageError, "cannot be understood"),
    ],
)
def test_what_other_answers_say(
    s3_through: Callable[..., S3Storage], faulty: Front, answer: Answer, expected: type[DumperError], said: str
) -> None:
    faulty.fail("get", *[answer] * 10)
    with pytest.raises(expected, match=said) as error:
        s3_through(faulty).open("t/1/t.csv")
    assert type(error.value) is expected
    assert "t/1/t.csv" in error.value.message


def test_a_range_that_is_ignored_is_noticed(s3_through: Callable[..., S3Storage], faulty: Front) -> None:
    faulty.fail("get", Answer(200, b"0123456789", "text/csv"))
    with pytest.raises(StorageError, match="ignored the range"):
        s3_through(faulty).open("t/1/t.csv", offset=3, length=2)


def test_a_body_that_ends_early_is_noticed(s3_through: Callable[..., S3Storage], faulty: Front) -> None:
    storage = s3_through(faulty)
    storage.write("t/1/t.csv", [BytesPart(b"0123456789")], HEADERS)
    faulty.fail("get", Answer(200, b"01234", "text/csv", {"Content-Length": "10"}, cut=True))
    with storage.open("t/1/t.csv") as stream, pytest.raises(StorageUnavailableError, match=r"t/1/t\.csv"):
        stream.read()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"endpoint": "https://s3.example.org"}, "storage.s3.endpoint 'https://s3.example.org' has a scheme"),
        ({"endpoint": "s3.example.org/path"}, "storage.s3.endpoint 's3.example.org/path'"),
        ({"endpoint": "host:port"}, "storage.s3.endpoint 'host:port'"),
        ({"public_endpoint": "https://files.example.org"}, "storage.s3.public_endpoint"),
        ({"bucket": "UPPER CASE"}, "storage.s3.bucket 'UPPER CASE'"),
        ({"bucket": ""}, "storage.s3.bucket ''"),
        ({"region": "not a region"}, "storage.s3.region 'not a region'"),
        ({"prefix": "a/../b"}, "storage.s3.prefix 'a/../b'"),
        ({"secret_key": ""}, "storage.s3.secret_key is missing"),
        ({"access_key": ""}, "storage.s3.access_key is missing"),
        ({"ca_file": Path("/nonexistent.pem")}, "storage.s3.ca_file /nonexistent.pem"),
    ],
)
def test_settings_that_cannot_be_right(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        open_storage(dataclasses.replace(OFFLINE, **changes))
    assert said in error.value.message


def test_no_secret_in_the_representation() -> None:
    settings = dataclasses.replace(OFFLINE, secret_key="s3cr3t", session_token="t0ken")
    assert "s3cr3t" not in repr(settings)
    assert "t0ken" not in repr(settings)


@pytest.fixture
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """No credentials anywhere, and a metadata service that refuses at once."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY", "MINIO_ACCESS_KEY", "AWS_WEB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:9/")
    return monkeypatch


def test_keys_from_the_environment(s3: S3Storage, bare_environment: pytest.MonkeyPatch) -> None:
    bare_environment.setenv("AWS_ACCESS_KEY_ID", s3.settings.access_key)
    bare_environment.setenv("AWS_SECRET_ACCESS_KEY", s3.settings.secret_key)
    S3Storage(dataclasses.replace(s3.settings, access_key="", secret_key="")).check()


def test_keys_from_the_aws_credentials_file(
    s3: S3Storage, bare_environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "credentials").write_text(
        f"[default]\naws_access_key_id = {s3.settings.access_key}\naws_secret_access_key = {s3.settings.secret_key}\n"
    )
    S3Storage(dataclasses.replace(s3.settings, access_key="", secret_key="")).check()


@pytest.mark.usefixtures("bare_environment")
def test_no_keys_anywhere(s3: S3Storage) -> None:
    with pytest.raises(ConfigError, match="no credentials") as error:
        S3Storage(dataclasses.replace(s3.settings, access_key="", secret_key="")).check()
    assert "storage.s3.access_key" in error.value.hint


def test_links_and_reading_need_the_sdk_alone() -> None:
    """A CKAN virtualenv has minio and what it needs, but not tenacity."""
    program = (
        "import sys; sys.modules['tenacity'] = None\n"
        "from datastore_dumper.storage.settings import MIB, S3Settings, open_storage\n"
        "from datastore_dumper.storage.base import ObjectHeaders\n"
        "storage = open_storage(S3Settings('s3.invalid', 'dumps', access_key='a', secret_key='b'))\n"
        "assert storage.link('t', ObjectHeaders('text/csv', 't.csv'), 60)\n"
        "third = {name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names)\n"
        "assert not third & {'psycopg', 'pydantic', 'click', 'structlog', 'yaml'}, third\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=90)


def ignoring(header: str, direct: S3Storage) -> Callable[[Request], Answer | None]:
    """A service that does not know a header of UploadPartCopy: the request is made anew without it."""

    def fault(request: Request) -> Answer | None:
        if request.operation != "copy":
            return None
        headers = {
            name: value
            for name, value in request.headers.items()
            if name.startswith("x-amz-copy-source") and name != header
        }
        bucket, key = unquote(request.path).lstrip("/").split("/", 1)
        query = {name: values[0] for name, values in request.query.items()}
        answer = direct._client._minio._execute("PUT", bucket, key, headers=headers, query_params=query)
        return Answer(200, answer.data)

    return fault


# What a service may answer to a copy that is right: it has no copies, or refuses the etag that it gave itself.
REFUSALS = {"NotImplemented": 501, "PreconditionFailed": 412}


@pytest.mark.parametrize("fault", [*REFUSALS, "x-amz-copy-source-range", "x-amz-copy-source-if-match"])
def test_a_service_that_copies_wrongly_is_found_out_and_gets_full_uploads(
    s3_settings: S3Settings, s3_server: S3Server, fault: str
) -> None:
    direct = S3Storage(s3_settings)
    with front(s3_server.endpoint) as between:
        storage = open_storage(dataclasses.replace(s3_settings, endpoint=between.endpoint))
        if fault in REFUSALS:
            between.fail("copy", *[error(REFUSALS[fault], fault)] * 10)
        else:
            between.fault = ignoring(fault, direct)
        (note,) = storage.check()
        assert "does not copy ranges right" in note
        assert fault in note or fault == "x-amz-copy-source-range"
        assert list(direct.list("datastore-dumper-check")) == []
        source = storage.write("t/1", [BytesPart(b"x" * 6 * MIB + b"y" * 6 * MIB)], HEADERS)
        before = len(between.operations())
        written = storage.write(
            "t/2", [BytesPart(b"head"), ReusePart("t/1", source.etag, 3 * MIB, 8 * MIB), BytesPart(b"tail")], HEADERS
        )
        assert "copy" not in between.operations()[before:]
        assert (written.length, written.reused_bytes) == (8 * MIB + 8, 0)
        with storage.open("t/2") as stream:
            assert stream.read() == b"head" + b"x" * 3 * MIB + b"y" * 5 * MIB + b"tail"
        with pytest.raises(ObjectChangedError):
            storage.write("t/3", [ReusePart("t/1", "other", 0, 8 * MIB)], HEADERS)
