"""Makes one table's files: claim, export, store, publish, in this order. Each daemon thread that exports has one.

Which tables are due is not decided here, nor what happens after an error beyond giving the table back.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg

from datastore_dumper.database import Connection, Database, explain
from datastore_dumper.due import retry_delay_seconds
from datastore_dumper.errors import DumperError, ExportError, LeaseLostError, StorageError, TableChangedError
from datastore_dumper.export import SegmentFile, SegmentReader, TableState, hold_snapshot
from datastore_dumper.formats import Compat, FileFormat
from datastore_dumper.lease import Lease, Leases, release
from datastore_dumper.logs import get_logger
from datastore_dumper.manifest import Manifest, Segment, sha256_of
from datastore_dumper.plan import full_plan
from datastore_dumper.publish import NewFile, PublishedFile, announce, publish, published_files
from datastore_dumper.sqlfiles import query
from datastore_dumper.storage.base import BytesPart, FilePart, ObjectHeaders, Part, Storage
from datastore_dumper.storage.keys import new_version, object_key

log = get_logger(__name__)


@dataclass(frozen=True)
class WorkSettings:
    """What a worker needs of the configuration. Times in seconds."""

    formats: tuple[FileFormat, ...]
    compat: Compat
    ckan_read_role: str | None
    lock_timeout_seconds: float
    retry_initial_seconds: float
    retry_max_seconds: float
    retain_seconds: float
    """How long a superseded object is kept."""


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
            files, state = self._export_and_store(lease)
            lease.require()
            self._leases.drop(lease)  # from here on the lease is given back or lost, in one transaction
            publish(
                self._connection("control"),
                lease,
                state,
                files,
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
        log.info(
            "published" if any(file.announced for file in files) else "unchanged",
            resource_id=lease.resource_id,
            formats=[file.format for file in files],
            rows=files[0].manifest.rows,
            bytes=sum(file.manifest.length for file in files),
            changes=len(state.changes),
            seconds=round(time.monotonic() - started, 3),
        )
        return True

    def _export_and_store(self, lease: Lease) -> tuple[list[NewFile], TableState]:
        spooled: dict[str, list[SegmentFile]] = {}
        try:
            with hold_snapshot(self._connection("holder"), lease.relid) as state:
                lease.expected_rows = state.estimated_rows
                for file_format in self._settings.formats:
                    name = file_format.format.name
                    if name not in spooled:  # with and without BOM have the same rows
                        spooled[name] = []
                        self._export(lease, state, file_format, spooled[name])
            published = published_files(self._connection("control"), lease.resource_id)
            return [
                self._store(lease, state, each, spooled[each.format.name], published.get(each.name))
                for each in self._settings.formats
            ], state
        finally:
            for path in self._spool.glob(f"{lease.relid}-{lease.epoch}-*"):
                path.unlink()

    def _export(self, lease: Lease, state: TableState, file_format: FileFormat, segments: list[SegmentFile]) -> None:
        def progress(rows: int) -> None:
            lease.exported_rows = done + rows
            lease.require()

        reader = SegmentReader(
            connection=self._connection("segment"),
            witness=self._connection("control"),
            state=state,
            compat=self._settings.compat,
            settings=self._reader_settings(),
            lock_timeout_seconds=self._settings.lock_timeout_seconds,
            stop=self._abandon,
        )
        for number, part in enumerate(full_plan()):
            done = sum(segment.rows for segment in segments)
            path = self._spool / f"{lease.relid}-{lease.epoch}-{file_format.format.name}-{number}"
            segments.append(reader.export(file_format.format, part, path, progress))

    def _store(
        self,
        lease: Lease,
        state: TableState,
        file_format: FileFormat,
        segments: list[SegmentFile],
        published: PublishedFile | None,
    ) -> NewFile:
        head = file_format.head(state.table, self._settings.compat)
        tail = file_format.format.tail(state.table, self._settings.compat)
        manifest = make_manifest(head, segments, tail)
        file = NewFile(
            format=file_format.name,
            key="",
            etag="",
            content_type=file_format.format.content_type,
            compat=str(self._settings.compat),
            manifest=manifest,
            announced=True,
        )
        if published is not None and self._is_same(published, file):
            return NewFile(**{**vars(file), "key": published.key, "etag": published.etag, "announced": False})
        lease.require()
        key = object_key(lease.resource_id, new_version(state.generated_at), file_format.format.extension)
        announce(self._connection("control"), [key])
        headers = ObjectHeaders(file.content_type, f"{lease.resource_id}.{file_format.format.extension}")
        written = self._storage.write(key, self._parts(lease, head, segments, tail), headers)
        if written.length != manifest.length:
            raise StorageError(f"The storage has {written.length} bytes of {key}, {manifest.length} were written")
        return NewFile(**{**vars(file), "key": key, "etag": written.etag})

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

    def _parts(self, lease: Lease, head: bytes, segments: list[SegmentFile], tail: bytes) -> Iterator[Part]:
        yield BytesPart(head)
        for segment in segments:
            lease.require()
            if self._abandon.is_set():
                raise ExportError(f"The upload of {lease.resource_id} was broken off: the daemon stops")
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


def make_manifest(head: bytes, segments: list[SegmentFile], tail: bytes) -> Manifest:
    """The manifest of a file made of one fresh segment over the whole table."""
    offset = len(head)
    placed = []
    for segment, part in zip(segments, full_plan(), strict=True):
        placed.append(Segment(part.first, part.last, segment.rows, offset, segment.length, segment.sha256))
        offset += segment.length
    return Manifest(len(head), sha256_of(head), tuple(placed), len(tail), sha256_of(tail))
