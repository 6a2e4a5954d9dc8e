"""Makes the files of one table from one snapshot: plans them, exports what is fresh, stores head, segments and tail.

Storing pulls the export: segments are read from Postgres as the storage asks for the next part of the file. Claiming the
table before and publishing the files after is the worker's. Files of one format share their rows: the one with a byte order
mark is the other with another head.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, groupby

from datastore_dumper.choice import NOT_MEASURED, Choice, Size
from datastore_dumper.errors import (
    DumperError,
    ExportError,
    FormatFailedError,
    ObjectChangedError,
    ObjectMissingError,
    StorageError,
)
from datastore_dumper.export import TableState
from datastore_dumper.failpoints import failpoint
from datastore_dumper.formats import Compat, FileFormat, Format, Table, file_format
from datastore_dumper.formats.alterations import altered
from datastore_dumper.lease import Lease
from datastore_dumper.logs import get_logger
from datastore_dumper.manifest import Segment, make_manifest, manifest_from_json
from datastore_dumper.plan import FULL, Fresh, PlannedPart, Reuse, make_plan
from datastore_dumper.publish import FailedFormat, NewFile, PublishedFile
from datastore_dumper.segments import SegmentSource
from datastore_dumper.spool import SegmentFile
from datastore_dumper.storage.base import BytesPart, FilePart, ObjectHeaders, Part, ReusePart, Storage, WrittenObject
from datastore_dumper.storage.keys import new_version, object_key

log = get_logger(__name__)

Chunk = SegmentFile | Reuse
"""Rows of the new file: in a spool file, or in the published object."""


@dataclass
class Made:
    """The files of one table, all of one snapshot, and the formats in which it cannot be had. Counts are bytes."""

    state: TableState
    choice: Choice
    size: Size = NOT_MEASURED
    files: list[NewFile] = field(default_factory=list)
    failures: list[FailedFormat] = field(default_factory=list)
    read_bytes: int = 0
    """Of rows read from Postgres, as they stand in the files."""
    uploaded_bytes: int = 0
    reused_bytes: int = 0
    """Copied by the storage itself."""

    @property
    def rows(self) -> int:
        return max((file.manifest.rows for file in self.files), default=0)


class _UnchangedError(Exception):
    """All rows have been read, and the file would be the published one: do not store it again."""


class _ReuseFailedError(StorageError):
    """An object whose rows were to be copied is gone, or another than was published: read everything anew."""


@dataclass
class Assembly:
    """The files of one table in the making, while the snapshot is held."""

    lease: Lease
    state: TableState
    storage: Storage
    compat: Compat
    published: dict[str, PublishedFile]
    """What is published now, by the name of the format."""
    announce: Callable[[str], None]
    """Writes down the key of an object that is about to be written."""
    source: Callable[[Format, TableState, Compat], SegmentSource]
    recipe: str
    """What the bytes depend on beside table, format and compat: settings of CKAN's read role."""
    segment_bytes: int
    window: int
    """How many segments may lie in spool files at once."""
    abandon: threading.Event
    """Set: break off."""

    def require(self) -> None:
        """Raises `LeaseLostError` if the table may be somebody else's by now, `ExportError` if this is to be broken off."""
        self.lease.require()
        if self.abandon.is_set():
            raise ExportError(f"The export of {self.lease.resource_id} was broken off: the daemon stops")

    def make(self, made: Made) -> Made:
        """Make and store the files in all formats that were chosen. Raises what keeps every one of them from being made."""
        formats = [file_format(name) for name in made.choice.formats]
        for format_ in dict.fromkeys(each.format for each in formats):
            group = [each for each in formats if each.format is format_]
            try:
                made.files += _Group(self, made, format_).make(group)
            except FormatFailedError as error:
                compat = str(format_.compat(self.compat))
                made.failures += [FailedFormat(each.name, compat, error.message) for each in group]
        return made


class _Group:
    """The files of one format."""

    def __init__(self, assembly: Assembly, made: Made, format_: Format) -> None:
        self._assembly = assembly
        self._made = made
        self._format = format_
        self._compat = format_.compat(assembly.compat)
        self._table: Table = altered(assembly.state.table, self._compat)
        self._tail = format_.tail(self._table, self._compat)
        self._source = assembly.source(format_, replace(assembly.state, table=self._table), self._compat)

    def make(self, group: Sequence[FileFormat]) -> list[NewFile]:
        first, *others = group
        plan = self._plan(first)
        try:
            return self._store_all(first, others, plan)
        except _ReuseFailedError as error:
            log.warning("reuse_failed", resource_id=self._assembly.lease.resource_id, error=error.message)
            return self._store_all(first, others, FULL)

    def _store_all(
        self, first: FileFormat, others: Sequence[FileFormat], plan: tuple[PlannedPart, ...]
    ) -> list[NewFile]:
        file, chunks = self._store(first, plan)
        files = [file, *(self._with_other_head(file, other, chunks) for other in others)]
        for chunk in chunks or ():
            if isinstance(chunk, SegmentFile):
                chunk.path.unlink()
        return files

    def _plan(self, file_format: FileFormat) -> tuple[PlannedPart, ...]:
        """What is to be read anew: all of it, unless the published file shows an earlier state of this very table."""
        published = self._assembly.published.get(file_format.name)
        state = self._assembly.state
        if self._format.whole or published is None:
            return FULL
        of_this_table = (
            published.relid == state.relid
            and published.filenode == state.filenode
            and published.signature == state.signature
            and published.timeline == state.timeline
            and published.compat == str(self._compat)
            # Else there may be changes that nothing has noted, and what is reused would not be of this state.
            and state.is_watched
        )
        if not of_this_table:
            return FULL
        try:
            manifest = manifest_from_json(published.manifest, published.length)
        except DumperError as error:
            log.warning("manifest_unusable", resource_id=self._assembly.lease.resource_id, error=error.message)
            return FULL
        if (manifest.recipe, manifest.encoder) != (self._assembly.recipe, self._format.encoder):
            return FULL
        return make_plan(manifest, {bucket for _, bucket in state.changes}, self._assembly.segment_bytes)

    def _store(self, file_format: FileFormat, plan: tuple[PlannedPart, ...]) -> tuple[NewFile, list[Chunk] | None]:
        """Export what the plan reads anew, and store the file. Its chunks, too, if all of them are still there: not more
        segments than the window holds."""
        published = self._assembly.published.get(file_format.name)
        head = file_format.head(self._table, self._compat)
        chunks = self._chunks(plan)
        ready: list[Chunk] = []
        entries: list[Segment | SegmentFile] = []
        try:
            complete = self._look_ahead(chunks, ready, entries)
            stop_if_unchanged = partial(self._stop_if_unchanged, published, file_format, head, entries)
            if complete:
                stop_if_unchanged()
            rest = iter(()) if complete else self._consumed(chunks, entries, stop_if_unchanged)
            new_key, written = self._write(file_format, self._parts(head, chain(ready, rest), published, keep=complete))
        except _UnchangedError:
            assert published is not None
            file = self._described(file_format, head, entries)
            return replace(file, key=published.key, etag=published.etag, announced=False), ready if complete else None
        finally:
            chunks.close()
        file = replace(self._described(file_format, head, entries), key=new_key, etag=written.etag)
        if written.length != file.manifest.length:
            raise StorageError(f"The storage has {written.length} bytes of {new_key}, not {file.manifest.length}")
        return file, ready if complete else None

    def _chunks(self, plan: tuple[PlannedPart, ...]) -> Generator[Chunk, None, None]:
        for reused, run in groupby(plan, key=lambda part: isinstance(part, Reuse)):
            if reused:
                yield from (part for part in run if isinstance(part, Reuse))
                continue
            parts = [part for part in run if isinstance(part, Fresh)]
            with closing(self._source.segments(parts, whole=self._format.whole)) as segments:
                for segment in segments:
                    self._made.read_bytes += segment.length
                    yield segment

    def _look_ahead(self, chunks: Iterator[Chunk], ready: list[Chunk], entries: list[Segment | SegmentFile]) -> bool:
        """Take as many chunks as the window holds; True if that is all of them."""
        for chunk in chunks:
            ready.append(chunk)
            entries += chunk.segments if isinstance(chunk, Reuse) else [chunk]
            if sum(isinstance(each, SegmentFile) for each in ready) >= self._assembly.window:
                return False
        return True

    def _consumed(
        self, chunks: Iterator[Chunk], entries: list[Segment | SegmentFile], at_the_end: Callable[[], None]
    ) -> Iterator[Chunk]:
        for chunk in chunks:
            entries += chunk.segments if isinstance(chunk, Reuse) else [chunk]
            yield chunk
        at_the_end()

    def _parts(
        self, head: bytes, chunks: Iterator[Chunk], published: PublishedFile | None, *, keep: bool
    ) -> Iterator[Part]:
        """What the storage puts together. Spool files go as soon as they are read, unless they are to be kept."""
        yield BytesPart(head)
        any_rows = False
        for chunk in chunks:
            self._assembly.require()
            if chunk.length:
                if any_rows and self._format.joiner:
                    yield BytesPart(self._format.joiner)
                any_rows = True
                if isinstance(chunk, Reuse):
                    assert published is not None, "a plan reuses what is published"
                    yield ReusePart(published.key, published.etag, chunk.offset, chunk.length)
                else:
                    yield FilePart(chunk.path, 0, chunk.length)
            if isinstance(chunk, SegmentFile) and not keep:
                chunk.path.unlink()
        yield BytesPart(self._tail)

    def _with_other_head(self, first: NewFile, other: FileFormat, chunks: list[Chunk] | None) -> NewFile:
        """The same rows behind another head: from the spool files if they are there, else copied by the storage."""
        head = other.head(self._table, self._compat)
        file = self._described(other, head, first.manifest.segments)
        published = self._assembly.published.get(other.name)
        if published is not None and self._is_same(published, file):
            return replace(file, key=published.key, etag=published.etag, announced=False)
        body = first.manifest.length - first.manifest.head_length - first.manifest.tail_length
        if chunks is not None and all(isinstance(chunk, SegmentFile) for chunk in chunks):
            parts = self._parts(head, iter(chunks), None, keep=True)
        else:
            reused = ReusePart(first.key, first.etag, first.manifest.head_length, body)
            parts = iter([BytesPart(head), *([reused] if body else []), BytesPart(self._tail)])
        key, written = self._write(other, parts)
        if written.length != file.manifest.length:
            raise StorageError(f"The storage has {written.length} bytes of {key}, not {file.manifest.length}")
        return replace(file, key=key, etag=written.etag)

    def _described(self, file_format: FileFormat, head: bytes, entries: Sequence[Segment | SegmentFile]) -> NewFile:
        manifest = make_manifest(
            head, entries, self._format.joiner, self._tail, self._assembly.recipe, self._format.encoder
        )
        return NewFile(
            format=file_format.name,
            key="",
            etag="",
            content_type=self._format.content_type,
            compat=str(self._compat),
            manifest=manifest,
            announced=True,
        )

    def _write(self, file_format: FileFormat, parts: Iterator[Part]) -> tuple[str, WrittenObject]:
        self._assembly.require()
        resource_id = self._assembly.state.table.resource_id
        extension = file_format.format.extension
        key = object_key(resource_id, new_version(self._assembly.state.generated_at), extension)
        failpoint("before_announce")
        self._assembly.announce(key)
        failpoint("after_announce")
        headers = ObjectHeaders(file_format.format.content_type, f"{resource_id}.{extension}")
        try:
            written = self._assembly.storage.write(key, parts, headers)
        except (ObjectChangedError, ObjectMissingError) as error:
            raise _ReuseFailedError(error.message) from error
        self._made.uploaded_bytes += written.uploaded_bytes
        self._made.reused_bytes += written.reused_bytes
        return key, written

    def _stop_if_unchanged(
        self,
        published: PublishedFile | None,
        file_format: FileFormat,
        head: bytes,
        entries: Sequence[Segment | SegmentFile],
    ) -> None:
        if published is not None and self._is_same(published, self._described(file_format, head, entries)):
            raise _UnchangedError

    def _is_same(self, published: PublishedFile, file: NewFile) -> bool:
        """Whether the published object has these very bytes, and is there."""
        of_this_table = published.relid == self._assembly.state.relid
        if not of_this_table or (published.digest, published.compat) != (file.manifest.digest, file.compat):
            return False
        try:
            stored = self._assembly.storage.stat(published.key)
        except StorageError as error:
            log.warning("published_object_unusable", key=published.key, error=error.message)
            return False
        return (stored.etag, stored.length) == (published.etag, published.length)
