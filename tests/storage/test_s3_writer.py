"""The traps of writing to S3, each against a real service behind a front that fails when told to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from datastore_dumper.errors import (
    ObjectChangedError,
    ObjectMissingError,
    PermissionDeniedError,
    StorageError,
    StorageUnavailableError,
)
from datastore_dumper.storage.base import BytesPart, FilePart, ObjectHeaders, Part, ReusePart
from datastore_dumper.storage.s3 import S3Storage
from tests.support.faulty_front import Answer, Front, Lost, Request
from tests.support.seaweedfs import S3Server

HEADERS = ObjectHeaders("text/csv", "t.csv")
KEY = "t/1/t.csv"
MIB = 1 << 20
PART = 5 * MIB
Through = Callable[..., S3Storage]

ERROR_200 = Answer(200, b"<Error><Code>InternalError</Code><Message>We are sorry</Message></Error>")
DENIED_200 = Answer(200, b"<Error><Code>AccessDenied</Code></Error>")
SLOW_DOWN = Answer(503, b"<Error><Code>SlowDown</Code></Error>")
DENIED = Answer(403, b"<Error><Code>AccessDenied</Code></Error>")


def uploads(s3: S3Storage) -> list[str]:
    return [key for key, _, _ in s3._client.uploads("")]


def part_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("s3-part")]


def test_rows_are_put_together_in_linear_time(s3: S3Storage) -> None:
    """The SDK's own way took 44 s for 20 MB in rows of 139 bytes."""
    row = b"x" * 138 + b"\n"
    count = 150_000
    started = time.process_time()
    written = s3.write(KEY, (BytesPart(row) for _ in range(count)), HEADERS)
    assert time.process_time() - started < 6
    assert written.length == count * len(row)
    with s3.open(KEY) as stream:
        assert stream.read() == row * count


def test_small_objects_are_one_request(s3_through: Through, faulty: Front) -> None:
    storage = s3_through(faulty)
    storage.write(KEY, [BytesPart(b"a"), BytesPart(b"b")], HEADERS)
    assert faulty.operations() == ["put", "head"]
    storage.write("t/2/t.csv", [BytesPart(bytes(PART))], HEADERS)
    assert faulty.operations() == ["put", "head"] * 2
    assert not [request for request in faulty.requests if "x-amz-acl" in request.headers]


def test_large_objects_are_a_multipart_upload(s3_through: Through, faulty: Front) -> None:
    s3_through(faulty).write(KEY, [BytesPart(bytes(2 * PART + 1))], HEADERS)
    assert sorted(faulty.operations()) == sorted(["create", "part", "part", "part", "complete", "head"])
    assert not [request for request in faulty.requests if "x-amz-acl" in request.headers]


def test_a_copy_names_its_source_and_its_etag(s3_through: Through, faulty: Front) -> None:
    storage = s3_through(faulty)
    old = storage.write("t ä%/1/+.csv", [BytesPart(bytes(2 * PART))], HEADERS)
    storage.write(KEY, [ReusePart("t ä%/1/+.csv", old.etag, 3, PART), BytesPart(b"tail")], HEADERS)
    (copy,) = [request for request in faulty.requests if request.operation == "copy"]
    bucket = storage.settings.bucket
    assert copy.headers["x-amz-copy-source"] == f"/{bucket}/dumps/portal/t%20%C3%A4%25/1/%2B.csv"
    assert copy.headers["x-amz-copy-source-if-match"] == f'"{old.etag}"'
    assert copy.headers["x-amz-copy-source-range"] == f"bytes=3-{PART + 2}"


def test_a_failed_part_stops_the_source(s3_through: Through, faulty: Front) -> None:
    """Long before the next part is full, so that no snapshot is held for a file that will not be."""
    refused, stopped = threading.Event(), threading.Event()

    def source() -> Iterator[Part]:
        try:
            yield BytesPart(bytes(2 * PART + 1))
            assert refused.wait(90)
            for _ in range(2000):
                yield BytesPart(b"x")
                stopped.wait(0.005)
        except GeneratorExit:
            stopped.set()
            raise

    def refuse_second(request: Request) -> Answer | None:
        if request.query.get("partNumber") != ["2"]:
            return None
        refused.set()
        return DENIED

    faulty.fault = refuse_second
    storage = s3_through(faulty)
    with pytest.raises(PermissionDeniedError, match=r"part 2 of 't/1/t\.csv'"):
        storage.write(KEY, source(), HEADERS)
    assert stopped.is_set()
    assert "3" not in [number for request in faulty.requests for number in request.query.get("partNumber", [])]
    assert uploads(storage) == []
    with pytest.raises(ObjectMissingError):
        storage.stat(KEY)


def test_no_thread_outlives_a_write(s3_through: Through, faulty: Front) -> None:
    storage = s3_through(faulty)

    def source() -> Iterator[Part]:
        yield BytesPart(bytes(3 * PART))
        raise RuntimeError("cancelled")

    for _ in range(3):
        with pytest.raises(RuntimeError):
            storage.write(KEY, source(), HEADERS)
    storage.write(KEY, [BytesPart(bytes(3 * PART))], HEADERS)
    assert part_threads() == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_interrupt_aborts_the_upload(s3_through: Through, faulty: Front, error: type[BaseException]) -> None:
    storage = s3_through(faulty)

    def source() -> Iterator[Part]:
        yield BytesPart(bytes(2 * PART))
        assert uploads(storage) == [KEY]
        raise error

    with pytest.raises(error):
        storage.write(KEY, source(), HEADERS)
    assert "abort" in faulty.operations()
    assert uploads(storage) == []
    assert part_threads() == []


def test_an_error_with_status_200_on_complete_is_one(s3_through: Through, faulty: Front) -> None:
    storage = s3_through(faulty)
    faulty.fail("complete", DENIED_200)
    with pytest.raises(PermissionDeniedError, match="completing the upload"):
        storage.write(KEY, [BytesPart(bytes(2 * PART))], HEADERS)
    assert uploads(storage) == []
    assert list(storage.list()) == []


def test_a_passing_error_with_status_200_on_complete_is_repeated(s3_through: Through, faulty: Front) -> None:
    faulty.fail("complete", ERROR_200, SLOW_DOWN)
    written = s3_through(faulty).write(KEY, [BytesPart(bytes(2 * PART))], HEADERS)
    assert written.length == 2 * PART
    assert faulty.operations().count("complete") == 3


def test_a_lasting_error_on_complete(s3_through: Through, faulty: Front) -> None:
    storage = s3_through(faulty)
    faulty.fail("complete", *[ERROR_200] * 20)
    with pytest.raises(StorageUnavailableError, match="InternalError: We are sorry"):
        storage.write(KEY, [BytesPart(bytes(2 * PART))], HEADERS)
    assert faulty.operations().count("complete") == 4
    assert uploads(storage) == []


def test_an_error_with_status_200_on_copy_is_one(s3_through: Through, faulty: Front) -> None:
    storage = s3_through(faulty)
    old = storage.write("t/0/t.csv", [BytesPart(bytes(2 * PART))], HEADERS)
    parts = [ReusePart("t/0/t.csv", old.etag, 0, 2 * PART)]
    faulty.fail("copy", ERROR_200)
    assert storage.write(KEY, parts, HEADERS).reused_bytes == 2 * PART
    faulty.fail("copy", DENIED_200)
    with pytest.raises(PermissionDeniedError, match=r"copying 't/0/t\.csv'"):
        storage.write("t/2/t.csv", parts, HEADERS)
    assert [stored.key for stored in storage.list()] == ["t/0/t.csv", KEY]


NO_UPLOAD = Answer(404, b"<Error><Code>NoSuchUpload</Code></Error>")


@pytest.mark.parametrize(
    "answers",
    [[Lost()], [Lost(), NO_UPLOAD], [Lost()] * 4, [Lost(), SLOW_DOWN, SLOW_DOWN, SLOW_DOWN]],
    ids=["repeated", "no such upload", "lost for good", "busy since"],
)
def test_a_lost_answer_to_a_completion_that_worked(
    s3_through: Through, faulty: Front, answers: list[Answer | Lost]
) -> None:
    faulty.fail("complete", *answers)
    storage = s3_through(faulty)
    written = storage.write(KEY, [BytesPart(bytes(2 * PART))], HEADERS)
    assert storage.stat(KEY).etag == written.etag
    assert written.length == 2 * PART


def test_an_upload_that_somebody_aborted(s3_through: Through, faulty: Front) -> None:
    faulty.fail("complete", NO_UPLOAD)
    with pytest.raises(StorageError, match="NoSuchUpload"):
        s3_through(faulty).write(KEY, [BytesPart(bytes(2 * PART))], HEADERS)


@pytest.mark.parametrize("operation", ["create", "put", "part", "head"])
def test_a_lost_answer_to_anything_else(s3_through: Through, faulty: Front, operation: str) -> None:
    storage = s3_through(faulty)
    faulty.fail(operation, Lost())
    size = PART if operation == "put" else 2 * PART
    assert storage.write(KEY, [BytesPart(bytes(size))], HEADERS).length == size
    assert uploads(storage) == []


@pytest.mark.parametrize("operation", ["create", "part", "put", "head"])
def test_a_service_that_is_busy_is_asked_again(s3_through: Through, faulty: Front, operation: str) -> None:
    storage = s3_through(faulty)
    faulty.fail(operation, SLOW_DOWN, Answer(500, b"<html/>", "text/html"))
    size = PART if operation == "put" else 2 * PART
    assert storage.write(KEY, [BytesPart(bytes(size))], HEADERS).length == size


def test_a_service_that_asks_for_a_long_pause_does_not_get_it(s3_through: Through, faulty: Front) -> None:
    faulty.fail("put", Answer(503, SLOW_DOWN.body, headers={"Retry-After": "3600"}))
    assert s3_through(faulty).write(KEY, [BytesPart(b"x")], HEADERS).length == 1


def test_an_object_of_another_length_is_not_accepted(s3_through: Through, faulty: Front) -> None:
    storage = s3_through(faulty)
    for size in (10, 2 * PART):
        faulty.fail("head", Answer(200, headers={"ETag": '"e"', "Content-Length": "9", "Last-Modified": _http_date()}))
        with pytest.raises(StorageError, match=f"9 bytes .* expected {size}"):
            storage.write(KEY, [BytesPart(bytes(size))], HEADERS)
        assert list(storage.list()) == []


def test_another_etag_is_not_accepted(s3_through: Through, faulty: Front) -> None:
    headers = {"ETag": '"another"', "Content-Length": "10", "Last-Modified": _http_date()}
    faulty.fail("head", Answer(200, headers=headers))
    storage = s3_through(faulty)
    with pytest.raises(StorageError, match="etag another"):
        storage.write(KEY, [BytesPart(bytes(10))], HEADERS)
    assert list(storage.list()) == []


def test_an_object_that_changes_while_its_bytes_are_fetched(s3: S3Storage) -> None:
    s3.write("t/0/t.csv", [BytesPart(b"0123456789")], HEADERS)
    old = s3.stat("t/0/t.csv").etag
    s3.write("t/0/t.csv", [BytesPart(b"9876543210")], HEADERS)
    with pytest.raises(ObjectChangedError):
        s3.write(KEY, [BytesPart(b"x"), ReusePart("t/0/t.csv", old, 0, 10)], HEADERS)


def test_fetched_bytes_that_break_off_are_fetched_again(s3_through: Through, faulty: Front) -> None:
    storage = s3_through(faulty)
    old = storage.write("t/0/t.csv", [BytesPart(b"0123456789")], HEADERS)
    faulty.fail("get", Answer(206, b"012", "text/csv"))
    storage.write(KEY, [BytesPart(b"x"), ReusePart("t/0/t.csv", old.etag, 0, 10)], HEADERS)
    with storage.open(KEY) as stream:
        assert stream.read() == b"x0123456789"


def test_parts_go_in_parallel_but_not_all_at_once(s3_through: Through, faulty: Front, tmp_path: Path) -> None:
    together = threading.Barrier(3, timeout=90)
    lock = threading.Lock()
    running = most = 0

    def watch(request: Request) -> None:
        nonlocal running, most
        if request.operation != "part":
            return
        with lock:
            running += 1
            most = max(most, running)
        if int(request.query["partNumber"][0]) <= 3:
            together.wait()  # the first three are here at the same time, or this fails
        with lock:
            running -= 1

    faulty.fault = watch
    segment = tmp_path / "segment"
    segment.write_bytes(bytes(9 * PART))
    s3_through(faulty).write(KEY, [FilePart(segment, 0, 9 * PART)], HEADERS)
    assert most == 3


def test_delete_aborts_unfinished_uploads_of_that_key(s3: S3Storage, s3_server: S3Server) -> None:
    client = s3_server.client()
    for key in (KEY, KEY, f"{KEY}.gz"):
        upload = client._create_multipart_upload(s3.settings.bucket, f"dumps/portal/{key}", {})
        client._upload_part(s3.settings.bucket, f"dumps/portal/{key}", b"x", None, upload, 1)
    assert sorted(uploads(s3)) == [KEY, KEY, f"{KEY}.gz"]
    s3.delete(KEY)
    assert uploads(s3) == [f"{KEY}.gz"]


def test_sweep_aborts_old_uploads_below_the_prefix(s3: S3Storage, s3_server: S3Server) -> None:
    client = s3_server.client()
    for name in (f"dumps/portal/{KEY}", "others/t.csv"):
        client._create_multipart_upload(s3.settings.bucket, name, {})
    now = datetime.now(timezone.utc)
    assert s3.sweep(now - timedelta(hours=1)) == 0
    assert s3.sweep(now + timedelta(hours=1)) == 1
    assert [upload.object_name for upload in client._list_multipart_uploads(s3.settings.bucket).uploads] == [
        "others/t.csv"
    ]


def test_delete_works_where_uploads_cannot_be_listed(s3_through: Through, faulty: Front) -> None:
    storage = s3_through(faulty)
    storage.write(KEY, [BytesPart(b"x")], HEADERS)
    faulty.fail("list", Answer(501, b"<Error><Code>NotImplemented</Code></Error>"))
    storage.delete(KEY)
    assert list(storage.list()) == []


def _http_date() -> str:
    return datetime.now(timezone.utc).strftime("%a, %d %b %Y %H:%M:%S GMT")
