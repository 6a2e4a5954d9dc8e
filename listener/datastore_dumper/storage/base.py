"""The storage protocol: what the daemon and the plugin may ask of a place that keeps published files.

Two members keep it: `disk` and `s3`. Both pass the same conformance suite (tests/storage/). Keys are immutable: an
object is written once under a key nobody else uses, and never changed. This module holds names and types only.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol

from datastore_dumper.errors import StorageError

CHECK_PREFIX = "datastore-dumper-check-"
"""How the keys of objects start that are written to try the storage, and deleted at once."""


@dataclass(frozen=True)
class BytesPart:
    """Bytes in memory: a header, a footer, a byte order mark."""

    data: bytes

    @property
    def length(self) -> int:
        return len(self.data)


@dataclass(frozen=True)
class FilePart:
    """`length` bytes of a local file from `offset`: a freshly exported segment.

    The storage has read all of it when it asks `parts` for the next one, so the producer may delete the file then.
    The storage never deletes it.
    """

    path: Path
    offset: int
    length: int

    def open(self) -> io.FileIO:
        """For the storage. Raises `StorageError`: the error of a local file is not one of the storage's own."""
        try:
            return io.FileIO(self.path)
        except OSError as error:
            raise StorageError(f"the segment file {self.path} cannot be read: {error.strerror}") from error


@dataclass(frozen=True)
class ReusePart:
    """`length` bytes from `offset` of an object already in the same storage, copied there without passing through us.

    The copy is refused with `ObjectChangedError` if the object's etag is not `etag`.
    """

    key: str
    etag: str
    offset: int
    length: int


Part = BytesPart | FilePart | ReusePart


@dataclass(frozen=True)
class ObjectHeaders:
    """What is stored with the object and sent when it is fetched by a link."""

    content_type: str
    filename: str
    """The name a browser saves it under. Any characters: the storage makes a safe RFC 6266 header of it."""


@dataclass(frozen=True)
class StoredObject:
    """An object as the storage knows it."""

    key: str
    length: int
    """Bytes."""
    etag: str
    """Opaque, without quotes. Changes when the content does."""
    modified: datetime
    """With time zone."""


@dataclass(frozen=True)
class WrittenObject:
    """What `write` made, verified in the storage."""

    key: str
    length: int
    etag: str
    uploaded_bytes: int
    """Bytes that went from here to the storage."""
    reused_bytes: int
    """Bytes the storage copied by itself."""


class Storage(Protocol):
    """A place for immutable objects.

    Keys are relative to the directory, or to the prefix in the bucket. Every method may raise `StorageError`
    or a subclass, `PermissionDeniedError`, and `ConfigError` where a setting is wrong (see `datastore_dumper.errors`);
    a key that is not valid (`keys.check_key`) is a `StorageError`. Objects may be shared by threads, not by processes.
    """

    def check(self) -> list[str]:
        """Write, read back, copy and delete a small object; raise what an operator can act on if that fails.

        Returns sentences on what works, but not as well as it might.
        """

    def write(self, key: str, parts: Iterable[Part], headers: ObjectHeaders) -> WrittenObject:
        """Make the object from its parts, in order, durably, and verify it. All or nothing: no object appears under
        `key`, and no upload or temporary file stays, if `parts` raises or anything fails. `parts` may be a generator
        that produces segments as they are exported; it is not read on after the first failure, and it is closed."""

    def stat(self, key: str) -> StoredObject:
        """Raises `ObjectMissingError` if there is none."""

    def open(self, key: str, *, offset: int = 0, length: int | None = None) -> BinaryIO:
        """A readable binary stream of the object or a range of it, which is cut where the object ends (RFC 9110
        section 14.1.2) and empty from there on. The caller closes it. Raises `ObjectMissingError`."""

    def link(self, key: str, headers: ObjectHeaders, expires_seconds: int) -> str | None:
        """A URL that hands out the object for `expires_seconds` to whoever has it, made without any network
        traffic; or None if this storage has no links."""

    def delete(self, key: str) -> None:
        """Delete the object and whatever unfinished upload or temporary file there is under its key. Not an error if
        there is none."""

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """All objects whose key starts with the string `prefix`, in the order of the bytes of their keys."""

    def read_mark(self) -> bytes | None:
        """What `write_mark` wrote last, or None. The mark is no object: it is not listed, and has no key."""

    def write_mark(self, data: bytes, *, replace: bool) -> None:
        """Keep some bytes that say whose objects these are. Without `replace`, `ObjectChangedError` if there is a mark
        already. An S3 service that does not know If-None-Match replaces it all the same, so read it back."""

    def sweep(self, before: datetime, *, dry_run: bool = False) -> int:
        """Remove what writers that were killed left behind, under any key: temporary files last written, uploads
        begun before `before` (with time zone). Returns how many; on a dry run, how many it would be. A write under way
        since then is lost: choose `before` well beyond the longest export."""
