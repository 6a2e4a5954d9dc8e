"""Turns the logical parts of an object into the physical parts of an S3 upload. Pure and lazy; `s3_writer` sends.

S3's limits (User Guide, "Amazon S3 multipart upload limits"): 5 MiB to 5 GiB a part, the last may be smaller, 10,000
parts. What is shorter grows over its neighbours: bytes of a `ReusePart` that must go into one part with other bytes
are fetched and uploaded, all others are copied by the storage.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from datastore_dumper.errors import StorageError
from datastore_dumper.storage.base import BytesPart, ReusePart
from datastore_dumper.storage.settings import MIB

Piece = BytesPart | ReusePart


@dataclass(frozen=True)
class Limits:
    """Sizes in bytes."""

    part_bytes: int = 16 * MIB
    """An uploaded part, held in memory."""
    copy_bytes: int = 256 * MIB
    """A copied part: the server has to answer within the read timeout."""
    copies: bool = True
    """Whether the storage copies ranges right. If not, all bytes are fetched and uploaded."""
    min_bytes: int = 5 * MIB
    max_bytes: int = 5 * 1024 * MIB
    max_parts: int = 10_000

    def floor(self, number: int) -> int:
        """The least size of part `number` (from 1) unless it is the last.

        S3's own minimum doubled after every 950 parts: however fragmented the parts are, 10,000 of them hold more
        than the 5 TiB an object may have, without knowing its length at the start.
        """
        step = max(1, self.max_parts * 95 // 1000)
        return min(self.min_bytes << ((number - 1) // step), self.max_bytes)

    def upload_bytes(self, number: int) -> int:
        return min(max(self.part_bytes, self.floor(number)), self.max_bytes)

    def copy_length(self, number: int, available: int) -> int:
        """How much of `available` bytes part `number` copies: a rest too short for a part of its own comes along."""
        most = min(max(self.copy_bytes, self.floor(number)), self.max_bytes)
        whole = available < most + self.floor(number + 1) and available <= self.max_bytes
        return available if whole else most


@dataclass(frozen=True)
class UploadPart:
    """A part made of these pieces, sent from here."""

    number: int
    pieces: tuple[Piece, ...]
    length: int
    last: bool
    """Nothing follows. A first part that is the last needs no multipart upload."""


@dataclass(frozen=True)
class CopyPart:
    """A part the storage copies by itself."""

    number: int
    source: ReusePart

    @property
    def length(self) -> int:
        return self.source.length


def plan(pieces: Iterable[Piece], limits: Limits) -> Iterator[UploadPart | CopyPart]:
    """The physical parts whose concatenation is the concatenation of `pieces`; at least one, perhaps empty.

    Reads `pieces` no further than it must: at most one piece beyond the part it gives out. Uploaded parts that follow
    each other are all of one size but the last (Cloudflare R2 asks for that). Raises `StorageError` past the last part
    number.
    """
    number = 1
    run: list[Piece] = []
    length = 0
    for piece in _joined(pieces):
        rest: Piece | None = piece
        while rest is not None:
            if number > limits.max_parts:
                raise StorageError(f"the object needs more than the {limits.max_parts} parts S3 allows")
            floor = limits.floor(number)
            copied = isinstance(rest, ReusePart) and limits.copies
            full = length >= (floor if copied else limits.upload_bytes(number))
            if full:
                yield UploadPart(number, tuple(run), length, last=False)
                run, length, number = [], 0, number + 1
            elif copied and not run and rest.length >= floor:
                part, rest = _cut(rest, limits.copy_length(number, rest.length))
                assert isinstance(part, ReusePart)
                yield CopyPart(number, part)
                number += 1
            else:
                room = limits.upload_bytes(number) - length
                if copied and run:
                    room = floor - length
                part, rest = _cut(rest, min(room, rest.length))
                run.append(part)
                length += part.length
    if number > limits.max_parts and run:
        raise StorageError(f"the object needs more than the {limits.max_parts} parts S3 allows")
    if len(run) == 1 and isinstance(run[0], ReusePart) and limits.copies:
        yield CopyPart(number, run[0])
    elif run or number == 1:
        yield UploadPart(number, tuple(run), length, last=True)


def _joined(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Without empty pieces, and with ranges of one object that follow each other as one range."""
    held: ReusePart | None = None
    for piece in pieces:
        if not piece.length:
            continue
        if isinstance(piece, ReusePart):
            if held is not None:
                if (held.key, held.etag, held.offset + held.length) == (piece.key, piece.etag, piece.offset):
                    held = replace(held, length=held.length + piece.length)
                    continue
                yield held
            held = piece
        else:
            if held is not None:
                yield held
                held = None
            yield piece
    if held is not None:
        yield held


def _cut(piece: Piece, length: int) -> tuple[Piece, Piece | None]:
    """The first `length` bytes and what is left of them."""
    if length == piece.length:
        return piece, None
    if isinstance(piece, ReusePart):
        return (
            replace(piece, length=length),
            replace(piece, offset=piece.offset + length, length=piece.length - length),
        )
    return BytesPart(piece.data[:length]), BytesPart(piece.data[length:])
