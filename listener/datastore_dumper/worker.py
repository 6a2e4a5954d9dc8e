"""Makes one table's files: claim, export, store, publish, in this order. Each daemon thread that exports has one.

Which tables are due is not decided here, nor what happens after an error beyond giving the table back.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import psycopg

from datastore_dumper.database import Connection, Database, explain
from datastore_dumper.due import retry_delay_seconds
from datastore_dumper.errors import (
    DumperError,
    ExportError,
    FormatFailedError,
    LeaseLostError,
    StorageError,
    TableChangedError,
)
from datastore_dumper.export import SegmentReader, TableState, hold_snapshot
from datastore_dumper.formats import Compat, FileFormat, Format
from datastore_dumper.formats.alterations import altered
from datastore_dumper.lease import Lease, Leases, release
from datastore_dumper.logs import get_logger
from datastore_dumper.manifest import make_manifest
from datastore_dumper.plan import full_plan
from datastore_dumper.publish import FailedFormat, NewFile, PublishedFile, announce, publish, published_files
from datastore_dumper.spool import SegmentFile
from datastore_dumper.sqlfiles import query
from datastore_dumper.storage.base import BytesPart, FilePart, ObjectHeaders, Part, Storage
from datastore_dumper.storage.keys import new_version, object_key

log = get_logger(__name__)


@dataclass(frozen=True)
class WorkSettings:
    """What a worker needs of the configuration. Times in seconds."""

    formats: tuple[FileFormat, ...]
    compat: Compat
    """As wanted of every format; each heeds the part that changes its bytes."""
    ckan_read_role: str | None
    lock_timeout_seconds: float
    retry_initial_seconds: float
    retry_max_seconds: float
    retain_seconds: float
    """How long a superseded object is kept."""


@dataclass
class Spooled:
    """One snapshot's exports, by the name of the format, and what was published before."""

    state: TableState
    segments: dict[str, list[SegmentFile]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    published: dict[str, PublishedFile] = field(default_factory=dict)

    def has(self, file_format: FileFormat) -> bool:
        return file_format.format.name in self.segments

    @property
    def rows(self) -> int:
        return max((sum(segment.rows for segment in segments) for segments in self.segments.values()), default=0)


class Worker:
    """Exports and publishes tables, one at a time, over three connections of its own, opened when needed."""

    def __init__(
        self,
        database: Database,
        storage: Storage,
        leases: Leases,
        settings: WorkSettings,
        spool: Path,
        abandon: threading.Event,
    ) -> None:
        self._database = database
        self._storage = storage
        self._leases = leases
        self._settings = settings
        self._spool = spool
        self._abandon = abandon
        self._connections: dict[str, Connection] = {}

    def dump(self, relid: int) -> bool:
        """Make and publish the files of a table. False if it was somebody else's, or failed and is due again later.

        Failures of the export or the storage are written to the table's row and logged. Raises `DumperError` only if
        Postgres itself is not there to be told.
        """
        try:
            lease = self._leases.claim(self._connection("control"), relid)
            if lease is None:
                return False
            with self._leases.dropping(lease):
                return self._dump(lease)
        except psycopg.Error as error:
            raise explain(error) from error
        finally:
            self._discard_broken_connections()

    def close(self) -> None:
        """Close the connections."""
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()

    def _dump(self, lease: Lease) -> bool:
        started = time.monotonic()
        try:
            with self._spooled(lease) as made:
                files = [self._store(lease, made, each) for each in self._settings.formats if made.has(each)]
            lease.require()
            self._leases.drop(lease)  # from here on the lease is given back or lost, in one transaction
            publish(
                self._connection("control"),
                lease,
                made.state,
                files,
                self._failures(made),
                retain_seconds=self._settings.retain_seconds,
                duration_seconds=time.monotonic() - started,
            )
        except LeaseLostError as error:
            log.warning("lease_lost", resource_id=lease.resource_id, error=error.message)
            return False
        except (DumperError, psycopg.Error, OSError) as error:
            self._give_back(lease, error)
            return False
        except Exception as error:
            # A table that trips over a bug of ours must not keep the others from being exported.
            log.exception("export_crashed", resource_id=lease.resource_id)
            self._give_back(lease, error)
            return False
        for format_name, error_of_format in made.failures.items():
            log.warning("format_failed", resource_id=lease.resource_id, format=format_name, error=error_of_format)
        log.info(
            "published" if any(file.announced for file in files) else "unchanged",
            resource_id=lease.resource_id,
            formats=[file.format for file in files],
            rows=made.rows,
            bytes=sum(file.manifest.length for file in files),
            changes=len(made.state.changes),
            seconds=round(time.monotonic() - started, 3),
        )
        return True

    @contextmanager
    def _spooled(self, lease: Lease) -> Iterator[Spooled]:
        """Export every format from one snapshot, so that they all show the same state; the files go at the end."""
        try:
            with hold_snapshot(self._connection("holder"), lease.relid) as state:
                lease.expected_rows = state.estimated_rows
                made = Spooled(state)
                for format_ in dict.fromkeys(each.format for each in self._settings.formats):  # with BOM or without
                    try:
                        made.segments[format_.name] = self._export(lease, state, format_)
                    except FormatFailedError as error:
                        made.failures[format_.name] = error.message
            made.published = published_files(self._connection("control"), lease.resource_id)
            yield made
        finally:
            for path in self._spool.glob(f"{lease.relid}-{lease.epoch}-*"):
                path.unlink()

    def _export(self, lease: Lease, state: TableState, format_: Format) -> list[SegmentFile]:
        segments: list[SegmentFile] = []

        def progress(rows: int) -> None:
            lease.exported_rows = done + rows
            lease.require()

        compat = format_.compat(self._settings.compat)
        reader = SegmentReader(
            connection=self._connection("segment"),
            witness=self._connection("control"),
            state=replace(state, table=altered(state.table, compat)),
            compat=compat,
            settings=self._reader_settings(),
            lock_timeout_seconds=self._settings.lock_timeout_seconds,
            stop=self._abandon,
        )
        for number, part in enumerate(full_plan()):
            done = sum(segment.rows for segment in segments)
            path = self._spool / f"{lease.relid}-{lease.epoch}-{format_.name}-{number}"
            segments.append(reader.export(format_, part, path, progress))
        return segments

    def _failures(self, made: Spooled) -> list[FailedFormat]:
        return [
            FailedFormat(each.name, str(each.format.compat(self._settings.compat)), made.failures[each.format.name])
            for each in self._settings.formats
            if not made.has(each)
        ]

    def _store(self, lease: Lease, made: Spooled, file_format: FileFormat) -> NewFile:
        compat = file_format.format.compat(self._settings.compat)
        table = altered(made.state.table, compat)
        head = file_format.head(table, compat)
        tail = file_format.format.tail(table, compat)
        segments = made.segments[file_format.format.name]
        joiner = file_format.format.joiner
        file = NewFile(
            format=file_format.name,
            key="",
            etag="",
            content_type=file_format.format.content_type,
            compat=str(compat),
            manifest=make_manifest(head, segments, joiner, tail),
            announced=True,
        )
        published = made.published.get(file_format.name)
        if published is not None and self._is_same(published, file):
            return replace(file, key=published.key, etag=published.etag, announced=False)
        lease.require()
        key = object_key(lease.resource_id, new_version(made.state.generated_at), file_format.format.extension)
        announce(self._connection("control"), [key])
        headers = ObjectHeaders(file.content_type, f"{lease.resource_id}.{file_format.format.extension}")
        written = self._storage.write(key, self._parts(lease, head, segments, joiner, tail), headers)
        if written.length != file.manifest.length:
            raise StorageError(f"The storage has {written.length} bytes of {key}, {file.manifest.length} were written")
        return replace(file, key=key, etag=written.etag)

    def _is_same(self, published: PublishedFile, file: NewFile) -> bool:
        """Whether the published object has these very bytes, and is there."""
        if (published.digest, published.compat) != (file.manifest.digest, file.compat):
            return False
        try:
            stored = self._storage.stat(published.key)
        except StorageError as error:
            log.warning("published_object_unusable", key=published.key, error=error.message)
            return False
        return (stored.etag, stored.length) == (published.etag, published.length)

    def _parts(
        self, lease: Lease, head: bytes, segments: list[SegmentFile], joiner: bytes, tail: bytes
    ) -> Iterator[Part]:
        yield BytesPart(head)
        for number, segment in enumerate(segment for segment in segments if segment.length):
            lease.require()
            if self._abandon.is_set():
                raise ExportError(f"The upload of {lease.resource_id} was broken off: the daemon stops")
            if number and joiner:
                yield BytesPart(joiner)
            yield FilePart(segment.path, 0, segment.length)
        yield BytesPart(tail)

    def _reader_settings(self) -> tuple[tuple[str, str], ...]:
        role = self._settings.ckan_read_role
        if role is None:
            return ()
        return tuple(self._connection("control").execute(query("reader_settings"), {"role": role}).fetchall())

    def _give_back(self, lease: Lease, error: Exception) -> None:
        self._leases.drop(lease)
        if self._abandon.is_set():
            release(self._connection("control"), lease, error=None, retry_seconds=0)
            log.info("export_abandoned", resource_id=lease.resource_id)
            return
        known = explain(error) if isinstance(error, psycopg.Error) else error
        message = known.message if isinstance(known, DumperError) else f"{type(known).__name__}: {known}"
        retry_seconds = retry_delay_seconds(
            lease.attempts,
            self._settings.retry_initial_seconds,
            self._settings.retry_max_seconds,
            random.random(),  # noqa: S311 - jitter
        )
        report = log.info if isinstance(error, TableChangedError) else log.warning
        report(
            "export_failed",
            resource_id=lease.resource_id,
            error=message,
            attempts=lease.attempts + 1,
            retry_seconds=round(retry_seconds, 1),
        )
        self._discard_broken_connections()
        release(self._connection("control"), lease, error=message, retry_seconds=retry_seconds)

    def _connection(self, purpose: str) -> Connection:
        connection = self._connections.get(purpose)
        if connection is None or connection.closed:
            connection = self._connections[purpose] = self._database.connect(purpose)
        return connection

    def _discard_broken_connections(self) -> None:
        """A connection that is not idle after an export is in a state nobody meant: open another next time."""
        for purpose, connection in list(self._connections.items()):
            if connection.closed or connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                with suppress(psycopg.Error):
                    connection.close()
                del self._connections[purpose]
