"""Compares published files with what an export gives now: under one snapshot that shows a file as fresh, the two must be
equal byte for byte. Reads only; what to do about a difference is for others.

A file that the snapshot does not show as fresh cannot be compared: the table has changed since.
"""

from __future__ import annotations

import io
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, zip_longest
from pathlib import Path
from typing import BinaryIO, Literal

from datastore_dumper.database import Connection, Database
from datastore_dumper.errors import DumperError, ExportError, GaveWayError, ObjectMissingError, TableChangedError
from datastore_dumper.export import SegmentReader, TableState, hold_snapshot
from datastore_dumper.formats import Compat, FileFormat, Format, Table, file_format
from datastore_dumper.formats.alterations import altered
from datastore_dumper.manifest import Manifest, manifest_from_json
from datastore_dumper.plan import Fresh
from datastore_dumper.publish import PublishedFile, published_files
from datastore_dumper.reader import reader_settings, recipe_of
from datastore_dumper.spool import SegmentFile
from datastore_dumper.sqlfiles import query
from datastore_dumper.storage.base import Storage
from datastore_dumper.worker import WorkSettings

Finding = Literal["same", "changed", "differs", "missing", "failed"]

_BLOCK_BYTES = 1 << 20
_LINE_BYTES = 200  # of a line that is shown, on either side of the difference
_ATTEMPTS = 12  # to get the lock of a table that others want
_PAUSE_SECONDS = 0.25


@dataclass(frozen=True)
class Difference:
    """The first place where the published file is not what it should be."""

    segment: int | None
    """Counted from 0; None: before the first or after the last."""
    offset: int
    """Bytes from the start of the file."""
    published: bytes
    """The line that it is in, or what there is of it."""
    expected: bytes


@dataclass(frozen=True)
class Verdict:
    """What is known of one published file."""

    resource_id: str
    format: str
    finding: Finding
    bytes: int
    detail: str = ""
    difference: Difference | None = None

    @property
    def is_wrong(self) -> bool:
        return self.finding in ("differs", "missing")


@dataclass(frozen=True)
class PublishedTable:
    """A table that has files, of so many bytes."""

    relid: int
    resource_id: str
    bytes: int


@dataclass
class _File:
    """A published file while it is being compared."""

    resource_id: str
    published: PublishedFile
    stored_length: int
    file_format: FileFormat
    manifest: Manifest
    head: bytes
    compared: int = 0
    """Bytes from the start that are known to be as they should be."""
    any_rows: bool = False
    verdict: Verdict | None = None

    def decide(self, finding: Finding, detail: str = "", difference: Difference | None = None) -> None:
        length = self.published.length
        self.verdict = Verdict(self.resource_id, self.published.format, finding, length, detail, difference)


@dataclass(frozen=True)
class _Now:
    """A table in the snapshot, and what its values are written under."""

    state: TableState
    settings: tuple[tuple[str, str], ...]
    """Of CKAN's read role, as `reader_settings` finds them."""


@dataclass
class Verifier:
    """Compares one table after the other, over three connections of its own."""

    database: Database
    storage: Storage
    settings: WorkSettings
    spool: Path
    stop: threading.Event
    _connections: dict[str, Connection] = field(default_factory=dict, init=False)
    _numbers: Iterator[int] = field(default_factory=itertools.count, init=False)

    def tables(self, ids: Sequence[str] | None) -> list[PublishedTable]:
        """Those that have files."""
        control = self._connection("control")
        with control.transaction():
            control.execute(query("status_plan"))
            rows = control.execute(query("published_tables"), {"ids": None if ids is None else list(ids)}).fetchall()
        return [PublishedTable(*row) for row in rows]

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()

    def verify(self, table: PublishedTable, tell: Callable[[int], None]) -> list[Verdict]:
        """One verdict for each file of the table. `tell` gets the bytes of the files that have been compared so far."""
        try:
            with hold_snapshot(self._connection("holder"), table.relid) as state:
                settings = reader_settings(self._connection("control"), self.settings.ckan_read_role)
                return list(self._verify(_Now(state, settings), tell))
        except TableChangedError as error:
            return [Verdict(table.resource_id, "", "changed", table.bytes, error.message)]

    def _verify(self, now: _Now, tell: Callable[[int], None]) -> Iterator[Verdict]:
        """What is published is read in the snapshot, too, so the two belong together."""
        done = 0
        comparable: list[_File] = []
        for published in published_files(self._connection("holder"), now.state.table.resource_id).values():
            found = self._prepare(now, published)
            if isinstance(found, Verdict):
                done += published.length
                tell(done)
                yield found
            else:
                comparable.append(found)
        # Files of one format in the same segments differ in their heads alone: the rows are exported once for all.
        for _, group in groupby(sorted(comparable, key=_kind), key=_kind):
            files = list(group)
            try:
                for compared in self._compare(now, files):
                    tell(done + compared)
            except GaveWayError as error:
                # The table is others' now; the other formats would wait for it as long.
                for file in comparable:
                    if file.verdict is None:
                        file.decide("failed", error.message)
                break
            done += sum(file.published.length for file in files)
        for file in comparable:
            assert file.verdict is not None, "each is decided"
            yield file.verdict

    def _prepare(self, now: _Now, published: PublishedFile) -> _File | Verdict:
        """The file, or why it cannot be compared."""
        state = now.state

        def verdict(finding: Finding, detail: str) -> Verdict:
            return Verdict(state.table.resource_id, published.format, finding, published.length, detail)

        try:
            made = file_format(published.format)
            manifest = manifest_from_json(published.manifest, published.length)
        except DumperError as error:
            return verdict("failed", error.message)
        compat = made.format.compat(self.settings.compat)
        if published.compat != str(compat):
            return verdict("changed", f"it is made for CKAN {published.compat}, not {compat}")
        if manifest.recipe != recipe_of(now.settings):
            return verdict("changed", "CKAN's read role has other settings since, which change the text of values")
        if manifest.encoder != (encoder := made.format.encoder):
            by = manifest.encoder or "another release"
            return verdict("changed", f"{by} made it, and {encoder} may make other bytes of the same rows")
        if state.changes or (published.relid, published.filenode, published.signature) != (
            state.relid,
            state.filenode,
            state.signature,
        ):
            return verdict("changed", "the table has changed since")
        try:
            stored = self.storage.stat(published.key)
        except ObjectMissingError as error:
            return verdict(*self._of_missing(state.table.resource_id, published.key, error))
        head = made.head(altered(state.table, compat), compat)
        return _File(state.table.resource_id, published, stored.length, made, manifest, head)

    def _compare(self, now: _Now, files: list[_File]) -> Iterator[int]:
        """Sets the verdict of each; yields how many bytes of all of them have been compared."""
        format_ = files[0].file_format.format
        compat = format_.compat(self.settings.compat)
        table = altered(now.state.table, compat)
        reader = self._reader(now, table, compat)
        for file in files:
            self._compare_bytes(file, io.BytesIO(file.head), len(file.head), None)
        for number, segment in enumerate(files[0].manifest.segments):
            undecided = [file for file in files if file.verdict is None]
            if not undecided:
                return
            try:
                exported = self._export(reader, format_, Fresh(segment.first, segment.last))
            except GaveWayError:
                raise
            except ExportError as error:
                for file in undecided:
                    file.decide("changed" if isinstance(error, TableChangedError) else "failed", error.message)
                return
            for file in undecided:
                self._compare_segment(file, exported, number)
            exported.path.unlink()
            yield sum(file.compared for file in files)
        tail = format_.tail(table, compat)
        for file in files:
            self._compare_bytes(file, io.BytesIO(tail), len(tail), None)
            if file.verdict is None and file.compared != file.stored_length:
                self._note_difference(file, None, file.compared, b"")
            if file.verdict is None:
                file.decide("same")

    def _compare_segment(self, file: _File, exported: SegmentFile, number: int) -> None:
        joiner = file.file_format.format.joiner
        if exported.length and file.any_rows and joiner:
            self._compare_bytes(file, io.BytesIO(joiner), len(joiner), number)
        file.any_rows = file.any_rows or bool(exported.length)
        with exported.path.open("rb") as rows:
            self._compare_bytes(file, rows, exported.length, number)
        segment = file.manifest.segments[number]
        if file.verdict is None and (segment.length, segment.sha256) != (exported.length, exported.sha256):
            file.decide("differs", f"its manifest has another SHA-256 of segment {number}")

    def _compare_bytes(self, file: _File, expected: BinaryIO, length: int, number: int | None) -> None:
        """`length` bytes from where the comparison has got to."""
        if file.verdict is not None or not length:
            return
        try:
            with self.storage.open(file.published.key, offset=file.compared, length=length) as stream:
                while wanted := expected.read(_BLOCK_BYTES):
                    found = stream.read(len(wanted))
                    if found != wanted:
                        at = next(i for i, (one, other) in enumerate(zip_longest(found, wanted)) if one != other)
                        self._note_difference(file, number, file.compared + at, wanted[at:])
                        return
                    file.compared += len(wanted)
        except ObjectMissingError as error:
            file.decide(*self._of_missing(file.resource_id, file.published.key, error))

    def _of_missing(self, resource_id: str, key: str, error: ObjectMissingError) -> tuple[Finding, str]:
        """It may have been superseded since the snapshot, and deleted after the links to it had expired."""
        now = published_files(self._connection("control"), resource_id)
        if all(published.key != key for published in now.values()):
            return "changed", "it has been superseded since"
        return "missing", error.message

    def _note_difference(self, file: _File, number: int | None, offset: int, expected: bytes) -> None:
        """`expected` is what should stand from `offset` on; before it, both are the same."""
        start = max(offset - _LINE_BYTES, 0)
        with self.storage.open(file.published.key, offset=start, length=2 * _LINE_BYTES) as stream:
            found = stream.read()
        at = offset - start
        difference = Difference(number, offset, line_around(found, at), line_around(found[:at] + expected, at))
        where = "its head or tail" if number is None else f"segment {number}"
        file.decide("differs", f"the first difference is in {where}, at byte {offset}", difference)

    def _export(self, reader: SegmentReader, format_: Format, part: Fresh) -> SegmentFile:
        """The segment as it is now. Somebody who waits for the table goes first."""
        for attempt in range(_ATTEMPTS):
            path = self.spool / f"verify-{next(self._numbers)}"
            try:
                return reader.export(format_, part, path, lambda _: None)
            except BaseException as error:
                path.unlink(missing_ok=True)
                if not isinstance(error, GaveWayError) or attempt + 1 == _ATTEMPTS or self.stop.wait(_PAUSE_SECONDS):
                    raise
        raise AssertionError("the last attempt raises")

    def _reader(self, now: _Now, table: Table, compat: Compat) -> SegmentReader:
        return SegmentReader(
            connection=self._connection("segment"),
            witness=self._connection("control"),
            state=replace(now.state, table=table),
            compat=compat,
            settings=now.settings,
            lock_timeout_seconds=self.settings.lock_timeout_seconds,
            stop=self.stop,
        )

    def _connection(self, purpose: str) -> Connection:
        """What is to be cancelled for somebody who waits is named as the daemon's, so a daemon's watchdog does it, too."""
        connection = self._connections.get(purpose)
        if connection is None or connection.closed:
            connection = self._connections[purpose] = self.database.connect(purpose)
        return connection


def line_around(data: bytes, at: int) -> bytes:
    """The line of `data` that position `at` is in, cut to a length that can be read."""
    start = data.rfind(b"\n", 0, at) + 1
    end = data.find(b"\n", at)
    return data[max(start, at - _LINE_BYTES) : min(len(data) if end < 0 else end, at + _LINE_BYTES)]


def _kind(file: _File) -> str:
    """Equal for files that have the same segments of the same format."""
    return repr((file.file_format.format.name, [(each.first, each.last) for each in file.manifest.segments]))
