"""What every storage does alike: the protocol of `storage.base`, on a real directory and a real S3 service."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from datastore_dumper.errors import ObjectChangedError, ObjectMissingError, StorageError
from datastore_dumper.garbage import sweep
from datastore_dumper.storage.base import CHECK_PREFIX, BytesPart, FilePart, ObjectHeaders, Part, ReusePart, Storage
from datastore_dumper.storage.keys import new_version, object_key

HEADERS = ObjectHeaders("text/csv; charset=utf-8", "täble.csv")
MIB = 1 << 20


def read(storage: Storage, key: str, offset: int = 0, length: int | None = None) -> bytes:
    with storage.open(key, offset=offset, length=length) as stream:
        return stream.read()


def keys(storage: Storage, prefix: str = "") -> list[str]:
    return [stored.key for stored in storage.list(prefix)]


def test_check_passes_and_leaves_nothing(storage: Storage) -> None:
    storage.check()
    assert keys(storage) == []


def test_an_object_is_what_its_parts_are(storage: Storage, tmp_path: Path) -> None:
    segment = tmp_path / "segment"
    segment.write_bytes(b"..fresh rows..")
    old = storage.write("t/1/t.csv", [BytesPart(b"0123456789")], HEADERS)
    parts = [BytesPart(b"head"), ReusePart("t/1/t.csv", old.etag, 2, 5), FilePart(segment, 2, 10), BytesPart(b"tail")]

    written = storage.write("t/2/t.csv", parts, HEADERS)

    assert read(storage, "t/2/t.csv") == b"head23456fresh rowstail"
    assert read(storage, "t/1/t.csv") == b"0123456789"
    stored = storage.stat("t/2/t.csv")
    assert (stored.key, stored.length, stored.etag) == ("t/2/t.csv", 23, written.etag)
    assert (written.key, written.length) == ("t/2/t.csv", 23)
    assert written.uploaded_bytes + written.reused_bytes == 23
    assert abs(datetime.now(timezone.utc) - stored.modified) < timedelta(minutes=1)


def test_the_mark_is_no_object(storage: Storage) -> None:
    assert storage.read_mark() is None
    storage.write_mark(b"first", replace=False)
    with pytest.raises(ObjectChangedError):
        storage.write_mark(b"second", replace=False)
    assert storage.read_mark() == b"first"
    storage.write_mark(b"third", replace=True)
    assert storage.read_mark() == b"third"
    assert keys(storage) == []
    assert storage.sweep(datetime.now(timezone.utc) + timedelta(days=1)) == 0
    assert storage.read_mark() == b"third"


@pytest.mark.parametrize("parts", [[], [BytesPart(b"")]], ids=["no parts", "an empty part"])
def test_an_empty_object(storage: Storage, parts: list[Part]) -> None:
    assert storage.write("t/1/t.csv", parts, HEADERS).length == 0
    assert storage.stat("t/1/t.csv").length == 0
    assert read(storage, "t/1/t.csv") == b""


def test_large_parts_are_reused_by_the_storage(storage: Storage, tmp_path: Path) -> None:
    content = secrets.token_bytes(24 * MIB)
    segment = tmp_path / "segment"
    segment.write_bytes(content)
    old = storage.write("t/1/t.csv", [FilePart(segment, 0, len(content))], HEADERS)
    assert (old.uploaded_bytes, old.reused_bytes) == (len(content), 0)

    fresh = secrets.token_bytes(100)
    first, second = 9 * MIB + 17, 8 * MIB + 3
    parts = [
        ReusePart("t/1/t.csv", old.etag, 0, first),
        BytesPart(fresh),
        ReusePart("t/1/t.csv", old.etag, first + 50, second),
    ]
    new = storage.write("t/2/t.csv", parts, HEADERS)

    assert read(storage, "t/2/t.csv") == content[:first] + fresh + content[first + 50 : first + 50 + second]
    assert new.length == first + 100 + second
    assert new.uploaded_bytes + new.reused_bytes == new.length
    # What is uploaded is less than a part of 5 MiB, the least S3 takes.
    assert new.uploaded_bytes <= 5 * MIB


def test_a_file_may_be_deleted_when_the_next_part_is_asked_for(storage: Storage, tmp_path: Path) -> None:
    def segments() -> Iterator[Part]:
        for number in range(4):
            path = tmp_path / f"segment{number}"
            path.write_bytes(bytes([number]) * 3 * MIB)
            yield FilePart(path, 0, 3 * MIB)
            path.unlink()

    storage.write("t/1/t.csv", segments(), HEADERS)
    assert read(storage, "t/1/t.csv") == b"".join(bytes([number]) * 3 * MIB for number in range(4))


@pytest.mark.parametrize(
    ("offset", "length", "expected"),
    [
        (0, None, b"0123456789"),
        (3, None, b"3456789"),
        (3, 4, b"3456"),
        (0, 1, b"0"),
        (3, 0, b""),
        (8, 100, b"89"),
        (10, None, b""),
        (50, 3, b""),
    ],
)
def test_ranges(storage: Storage, offset: int, length: int | None, expected: bytes) -> None:
    storage.write("t/1/t.csv", [BytesPart(b"0123456789")], HEADERS)
    assert read(storage, "t/1/t.csv", offset, length) == expected


def test_what_is_missing(storage: Storage) -> None:
    for operation in (storage.stat, storage.open, lambda key: storage.open(key, length=0)):
        with pytest.raises(ObjectMissingError, match=r"t/1/t\.csv"):
            operation("t/1/t.csv")
    storage.delete("t/1/t.csv")
    assert keys(storage) == []


def test_delete(storage: Storage) -> None:
    storage.write("t/1/t.csv", [BytesPart(b"1")], HEADERS)
    storage.write("t/2/t.csv", [BytesPart(b"2")], HEADERS)
    storage.delete("t/1/t.csv")
    assert keys(storage) == ["t/2/t.csv"]
    storage.delete("t/1/t.csv")
    storage.delete("t/2/t.csv")
    assert keys(storage) == []


def test_list_is_ordered_by_the_bytes_of_the_keys(storage: Storage) -> None:
    names = ["a/1/a.csv", "a-b/1/x.csv", "a=2E/1/x.csv", "a0/1/x.csv", "ab/1/x.csv", "B/1/x.csv", "ä/1/x.csv"]
    for name in names:
        storage.write(name, [BytesPart(name.encode())], HEADERS)
    assert keys(storage) == sorted(names, key=str.encode)
    assert keys(storage, "a") == sorted((name for name in names if name.startswith("a")), key=str.encode)
    assert keys(storage, "a/") == ["a/1/a.csv"]
    assert keys(storage, "a/1/a.c") == ["a/1/a.csv"]
    assert keys(storage, "none") == []
    assert [stored.length for stored in storage.list("ab/")] == [len("ab/1/x.csv")]


@pytest.mark.parametrize(
    "resource_id",
    [
        "8c2ac8f0-6d0e-4d3c-9c9e-0a1b2c3d4e5f",
        "with 'quotes' and \"more\"",
        "slash/../slash",
        "..",
        "%2e%2e%2f",
        "ünï ☃ 表",
        "a?b#c&d=e+f;g",
        "$(id)`|<>*",
        "x" * 63,
        "表" * 21,
        "new\nline\ttab",
    ],
)
def test_any_table_name_makes_a_key_that_works(storage: Storage, resource_id: str) -> None:
    key = object_key(resource_id, new_version(datetime.now(timezone.utc)), "csv")
    old = storage.write(key, [BytesPart(b"content")], ObjectHeaders("text/csv", f"{resource_id}.csv"))
    other = object_key(resource_id, new_version(datetime.now(timezone.utc)), "csv")
    storage.write(other, [ReusePart(key, old.etag, 0, 7)], HEADERS)
    assert read(storage, other) == b"content"
    assert sorted(keys(storage)) == sorted([key, other])
    storage.delete(key)
    assert keys(storage) == [other]


@pytest.mark.parametrize(
    "key", ["with space/1/+%&=?#.csv", "a~b/1/'\"()*!,;:@$.csv", "表/☃/é.csv", "%41/%2e%2e/%00.csv"]
)
def test_odd_keys(storage: Storage, key: str) -> None:
    old = storage.write(key, [BytesPart(b"content")], HEADERS)
    storage.write("copy", [ReusePart(key, old.etag, 0, 7)], HEADERS)
    assert read(storage, key) == read(storage, "copy") == b"content"
    assert keys(storage) == sorted([key, "copy"], key=str.encode)


@pytest.mark.parametrize(
    "key",
    ["", "/", "/etc/passwd", "a//b", "a/", "..", "a/../../b", "./a", "a/.hidden", "a\0b", "a\nb", "a\\b", "a" * 256, "\udc80",
     "a/" * 500 + "a"],
)  # fmt: skip
def test_keys_that_no_storage_takes(storage: Storage, key: str) -> None:
    operations = [
        lambda: storage.write(key, [BytesPart(b"x")], HEADERS),
        lambda: storage.write("good", [ReusePart(key, "e", 0, 1)], HEADERS),
        lambda: storage.stat(key),
        lambda: storage.open(key),
        lambda: storage.delete(key),
    ]
    for operation in operations:
        with pytest.raises(StorageError, match="is not valid"):
            operation()
    assert keys(storage) == []


def test_reuse_is_refused_if_the_object_is_another(storage: Storage) -> None:
    content = secrets.token_bytes(6 * MIB)
    storage.write("t/1/t.csv", [BytesPart(content)], HEADERS)
    for length in (10, 6 * MIB):
        with pytest.raises(ObjectChangedError, match=r"t/1/t\.csv"):
            storage.write("t/2/t.csv", [ReusePart("t/1/t.csv", "0" * 32, 0, length)], HEADERS)
    with pytest.raises(ObjectMissingError):
        storage.write("t/2/t.csv", [ReusePart("t/0/t.csv", "0" * 32, 0, 10)], HEADERS)
    assert keys(storage) == ["t/1/t.csv"]


@pytest.mark.parametrize("size", [10, 11 * MIB], ids=["small", "large"])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, FileNotFoundError, SystemExit])
def test_a_source_that_fails_leaves_nothing(storage: Storage, size: int, error: type[BaseException]) -> None:
    def source() -> Iterator[Part]:
        yield BytesPart(bytes(size))
        yield BytesPart(bytes(size))
        raise error("the export was cancelled")

    with pytest.raises(error, match="the export was cancelled"):
        storage.write("t/1/t.csv", source(), HEADERS)
    assert keys(storage) == []
    assert storage.sweep(datetime.now(timezone.utc) + timedelta(days=1)) == 0


def test_a_failure_of_the_storage_closes_the_source(storage: Storage) -> None:
    closed = []

    def source() -> Iterator[Part]:
        try:
            while True:
                yield ReusePart("missing", "0" * 32, 0, 6 * MIB)
                yield BytesPart(b"between")
        finally:
            closed.append(True)

    with pytest.raises(ObjectMissingError):
        storage.write("t/1/t.csv", source(), HEADERS)
    assert closed == [True]
    assert keys(storage) == []


def test_a_segment_file_that_is_too_short(storage: Storage, tmp_path: Path) -> None:
    segment = tmp_path / "segment"
    segment.write_bytes(b"12345")
    with pytest.raises(StorageError, match="segment"):
        storage.write("t/1/t.csv", [FilePart(segment, 2, 10)], HEADERS)
    with pytest.raises(StorageError, match=r"the segment file .*gone cannot be read"):
        storage.write("t/1/t.csv", [FilePart(tmp_path / "gone", 0, 1)], HEADERS)
    assert keys(storage) == []


def test_what_a_killed_check_left_is_swept(storage: Storage) -> None:
    """It is noted nowhere, unlike objects that are to be published."""
    for key in (f"{CHECK_PREFIX}0123/first", "other/1/other.csv"):
        storage.write(key, [BytesPart(b"left")], HEADERS)
    sweep(storage, 3600)
    assert len(list(storage.list())) == 2
    sweep(storage, -3600)
    assert [stored.key for stored in storage.list()] == ["other/1/other.csv"]
