"""The plan of an S3 upload: same bytes, within S3's limits, for any parts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datastore_dumper.errors import StorageError
from datastore_dumper.storage.base import BytesPart, ReusePart
from datastore_dumper.storage.multipart import CopyPart, Limits, Piece, UploadPart, plan

# S3's limits, scaled down: megabytes become bytes.
SMALL = Limits(part_bytes=16, copy_bytes=60, min_bytes=5, max_bytes=1000, max_parts=400)
OBJECTS = {key: bytes((index * step + step) % 251 for index in range(700)) for key, step in (("old", 7), ("other", 11))}

pieces = st.one_of(
    st.binary(max_size=50).map(BytesPart),
    st.builds(
        ReusePart,
        key=st.sampled_from(sorted(OBJECTS)),
        etag=st.just("etag"),
        offset=st.integers(0, 200),
        length=st.one_of(st.integers(0, 12), st.integers(0, 500)),
    ),
)


def content(given_pieces: Sequence[Piece]) -> bytes:
    return b"".join(
        piece.data if isinstance(piece, BytesPart) else OBJECTS[piece.key][piece.offset : piece.offset + piece.length]
        for piece in given_pieces
    )


def carried_out(part: UploadPart | CopyPart) -> bytes:
    return content([part.source] if isinstance(part, CopyPart) else part.pieces)


@given(st.lists(pieces, max_size=60))
def test_a_plan_is_the_same_bytes_within_the_limits(given_pieces: list[Piece]) -> None:
    planned = list(plan(given_pieces, SMALL))

    assert b"".join(map(carried_out, planned)) == content(given_pieces)
    assert [part.number for part in planned] == list(range(1, len(planned) + 1))
    for part in planned:
        assert len(carried_out(part)) == part.length <= SMALL.max_bytes
        if part is not planned[-1]:
            assert part.length >= SMALL.floor(part.number) >= SMALL.min_bytes
        if isinstance(part, UploadPart):
            assert part.length <= SMALL.upload_bytes(part.number)
            assert part.last == (part is planned[-1])
        else:
            assert part.source.etag == "etag"
            assert part.length > 0


@given(st.lists(pieces, max_size=60))
def test_little_is_fetched(given_pieces: list[Piece]) -> None:
    """At each seam of a copy at most one least part is fetched; with as many seams as there are pieces."""
    fetched = sum(
        piece.length
        for part in plan(given_pieces, SMALL)
        if isinstance(part, UploadPart)
        for piece in part.pieces
        if isinstance(piece, ReusePart)
    )
    reused = [piece for piece in given_pieces if isinstance(piece, ReusePart)]
    most = 2 * SMALL.floor(math.ceil(len(content(given_pieces)) / SMALL.min_bytes) + 1)
    assert fetched <= most * len(reused)


@given(st.lists(st.binary(max_size=50).map(BytesPart), max_size=60))
def test_uploaded_parts_are_of_one_size_but_the_last(given_pieces: list[Piece]) -> None:
    planned = list(plan(given_pieces, Limits(part_bytes=16, min_bytes=5)))
    assert all(part.length == 16 for part in planned[:-1])
    assert isinstance(planned[-1], UploadPart)


@given(st.lists(pieces, max_size=20))
def test_pieces_are_read_only_as_the_plan_is(given_pieces: list[Piece]) -> None:
    read = 0

    def source() -> Iterator[Piece]:
        nonlocal read
        for piece in given_pieces:
            read += piece.length
            yield piece

    given_out = 0
    longest = max((piece.length for piece in given_pieces), default=0)
    for part in plan(source(), SMALL):
        given_out += part.length
        # A run of pieces that join to one range is read to its end, and one piece beyond.
        if all(isinstance(piece, BytesPart) for piece in given_pieces):
            assert read <= given_out + longest


def test_ranges_that_follow_each_other_are_one_copy() -> None:
    parts = [ReusePart("old", "e", offset, 3) for offset in range(0, 30, 3)]
    assert list(plan(parts, SMALL)) == [CopyPart(1, ReusePart("old", "e", 0, 30))]
    other = [ReusePart("old", "e", 0, 30), ReusePart("old", "another", 30, 30)]
    assert len(list(plan(other, SMALL))) == 2


def test_a_short_rest_goes_with_the_copy_before_it() -> None:
    assert [part.length for part in plan([ReusePart("old", "e", 0, 64)], SMALL)] == [64]
    assert [part.length for part in plan([ReusePart("old", "e", 0, 65)], SMALL)] == [60, 5]


def test_nothing_is_one_empty_part() -> None:
    assert list(plan([], SMALL)) == [UploadPart(1, (), 0, last=True)]
    assert list(plan([BytesPart(b""), ReusePart("old", "e", 9, 0)], SMALL)) == [UploadPart(1, (), 0, last=True)]


def test_s3_itself() -> None:
    limits = Limits()
    assert limits.min_bytes == 5 * 1024**2
    assert limits.max_bytes == 5 * 1024**3
    assert limits.max_parts == 10_000
    numbers = range(1, limits.max_parts + 1)
    assert all(limits.floor(a) <= limits.floor(b) for a, b in pairwise(numbers))
    # Whatever the pieces are, the parts hold the 5 TiB of the largest object.
    assert sum(map(limits.floor, numbers)) >= 5 * 1024**4
    # Without reuse, parts are small for a long time: 25 GiB before the first one over 16 MiB.
    assert sum(16 * 1024**2 for number in numbers if limits.upload_bytes(number) == 16 * 1024**2) > 25 * 1024**3


def test_the_worst_five_tebibytes_fit() -> None:
    """Alternating ranges, none adjacent, that only just make parts of their own."""
    limits = Limits()
    size = 5 * 1024**2

    def ranges() -> Iterator[Piece]:
        for number in range(5 * 1024**4 // size):
            yield ReusePart("old", "e", 2 * number * size, size)

    total = last = 0
    for part in plan(ranges(), limits):
        total += part.length
        last = part.number
    assert total == 5 * 1024**4
    assert last <= limits.max_parts


def test_too_many_parts() -> None:
    few = Limits(part_bytes=5, copy_bytes=5, min_bytes=5, max_bytes=5, max_parts=3)
    assert len(list(plan([BytesPart(bytes(15))], few))) == 3
    with pytest.raises(StorageError, match="3 parts"):
        list(plan([BytesPart(bytes(16))], few))
