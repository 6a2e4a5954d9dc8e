"""What a file is made of: head, segments, tail. Kept in `dump_status.manifest`; says what a later export may reuse."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from datastore_dumper.errors import DumperError
from datastore_dumper.spool import SegmentFile

VERSION = 1


@dataclass(frozen=True)
class Segment:
    """The rows of a run of buckets, as they stand in the file. `_id >> 13` of every row is from `first` to `last`.

    None means: no bound on that side.
    """

    first: int | None
    last: int | None
    rows: int
    offset: int
    """Bytes from the start of the file."""
    length: int
    """Bytes."""
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """Head, segments in the order of the file, tail; lengths in bytes."""

    head_length: int
    head_sha256: str
    segments: tuple[Segment, ...]
    joiner_length: int
    """Bytes between two segments that have rows."""
    tail_length: int
    tail_sha256: str
    recipe: str = ""
    """What the bytes depend on beside table, format and compat: settings of CKAN's read role."""
    encoder: str = ""
    """`Format.encoder` of who made it."""

    @property
    def rows(self) -> int:
        return sum(segment.rows for segment in self.segments)

    @property
    def length(self) -> int:
        lengths = [segment.length for segment in self.segments if segment.length]
        return self.head_length + sum(lengths) + self.joiner_length * max(len(lengths) - 1, 0) + self.tail_length

    @property
    def digest(self) -> str:
        """SHA-256 over the SHA-256 of each piece, hexadecimal. Equal digests mean equal files."""
        pieces = [self.head_sha256, *(segment.sha256 for segment in self.segments if segment.length), self.tail_sha256]
        return hashlib.sha256("".join(pieces).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        return {"version": VERSION, **asdict(self)}


def make_manifest(
    head: bytes,
    segments: Sequence[SegmentFile | Segment],
    joiner: bytes,
    tail: bytes,
    recipe: str = "",
    encoder: str = "",
) -> Manifest:
    """The manifest of the file `head + joiner.join(segments that have rows) + tail`."""
    offset = len(head)
    placed = []
    for segment in segments:
        if segment.length and offset > len(head):
            offset += len(joiner)
        placed.append(Segment(segment.first, segment.last, segment.rows, offset, segment.length, segment.sha256))
        offset += segment.length
    return Manifest(len(head), sha256_of(head), tuple(placed), len(joiner), len(tail), sha256_of(tail), recipe, encoder)


def manifest_from_json(data: Mapping[str, Any], length: int) -> Manifest:
    """Read back what `to_json` made for a file of `length` bytes. Raises `DumperError` if it does not add up."""
    try:
        if data["version"] != VERSION:
            raise DumperError(f"Manifest of version {data['version']!r}, not {VERSION}")
        manifest = Manifest(
            head_length=int(data["head_length"]),
            head_sha256=str(data["head_sha256"]),
            segments=tuple(Segment(**segment) for segment in data["segments"]),
            joiner_length=int(data["joiner_length"]),
            tail_length=int(data["tail_length"]),
            tail_sha256=str(data["tail_sha256"]),
            recipe=str(data["recipe"]),
            encoder=str(data.get("encoder", "")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DumperError(f"Damaged manifest: {error!r}") from error
    offset = manifest.head_length
    for segment in manifest.segments:
        if segment.length and offset > manifest.head_length:
            offset += manifest.joiner_length
        if segment.offset != offset or segment.length < 0:
            raise DumperError(f"Damaged manifest: segment at {segment.offset}, expected {offset}")
        offset += segment.length
    if manifest.length != length:
        raise DumperError(f"Damaged manifest: of {manifest.length} bytes, the file has {length}")
    return manifest


def sha256_of(data: bytes) -> str:
    """Hexadecimal."""
    return hashlib.sha256(data).hexdigest()
