"""Makes one table's files: claim, export, store, publish, in this order. Each daemon thread that exports has one.

Which tables are due is not decided here, nor what happens after an error beyond giving the table back.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg

from datastore_dumper.assemble import Assembly, Made
from datastore_dumper.choice import Facts, Selection, choose
from datastore_dumper.database import Connection, Database, explain
from datastore_dumper.deadline import shut_down
from datastore_dumper.due import retry_delay_seconds
from datastore_dumper.errors import DumperError, LeaseLostError, TableChangedError
from datastore_dumper.export import SegmentReader, TableState, hold_snapshot
from datastore_dumper.formats import Compat, FileFormat, Format, file_format
from datastore_dumper.lease import Lease, Leases, release
from datastore_dumper.logs import get_logger
from datastore_dumper.monitor import exports
from datastore_dumper.ownership import Ownership
from datastore_dumper.plan import Fresh
from datastore_dumper.processes import SegmentProcesses, SegmentTask
from datastore_dumper.publish import announce, publish, published_files
from datastore_dumper.reader import reader_settings, recipe_of
from datastore_dumper.segments import SegmentSource
from datastore_dumper.standby import Standby, StandbyUnusableError, require_shown_by_primary
from datastore_dumper.storage.base import Storage
from datastore_dumper.watchdog import cancel_segments

log = get_logger(__name__)


@dataclass(frozen=True)
class WorkSettings:
    """What a worker needs of the configuration. Times in seconds."""

    selection: Selection
    formats: tuple[FileFormat, ...]
    """All that any table may have."""
    compat: Compat
    """As wanted of every format; each heeds the part that changes its bytes."""
    ckan_read_role: str | None
    lock_timeout_seconds: float
    segment_bytes: int
    retry_initial_seconds: float
    retry_max_seconds: float
    retain_seconds: float
    """How long a superseded object is kept."""


class Worker:
    """Exports and publishes tables, one at a time, over connections of its own, opened when needed: three to the primary,
    and three to the standby if there is one."""

    def __init__(
        self,
        database: Database,
        standby: Standby | None,
        storage: Storage,
        leases: Leases,
        ownership: Ownership,
        settings: WorkSettings,
        processes: SegmentProcesses,
        spool: Path,
        abandon: threading.Event,
    ) -> None:
        self._database = database
        self._standby = standby
        self._storage = storage
        self._leases = leases
        self._ownership = ownership
        self.settings = settings
        self._processes = processes
        self._spool = spool
        self._abandon = abandon
        self._connections: dict[tuple[Database, str], Connection] = {}
        self._numbers = itertools.count()  # of attempts, for the names of spool files
        self._formats: Sequence[str] = ()
        """In which the table is exported."""
        self.error: str | None = None
        """Why the last export failed, as it is in the table's row; None also if there was none, or it was broken off."""

    def dump(self, relid: int) -> bool | None:
        """Make and publish the files of a table. None if it was somebody else's; False if it failed and is due again later.

        Failures of the export or the storage are written to the table's row and logged. Raises `DumperError` only if
        Postgres itself is not there to be told.
        """
        self.error = None
        try:
            lease = self._leases.claim(self._connection("control"), relid)
            if lease is None:
                return None
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

    def cut_off(self) -> None:
        """End the connections of an export in another thread, which then fails like on any that broke."""
        for connection in list(self._connections.values()):
            shut_down(connection)

    def _dump(self, lease: Lease) -> bool:
        started = time.monotonic()
        self._formats = self.settings.selection.wanted_formats(lease.resource_id)
        installation = self._ownership.id
        try:
            made = self._export(lease)
            lease.require()
            self._leases.drop(lease)  # from here on the lease is given back or lost, in one transaction
            publish(
                self._connection("control"),
                lease,
                made.state,
                made.files,
                made.failures,
                choice=made.choice,
                size=made.size,
                installation=installation,
                retain_seconds=self.settings.retain_seconds,
                duration_seconds=time.monotonic() - started,
            )
        except LeaseLostError as error:
            exports.ended(self._formats, "lease_lost")
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
        if not made.choice.is_kept:
            log.info("not_kept", resource_id=lease.resource_id, choice=made.choice.verdict, reason=made.choice.detail)
            return True
        seconds = time.monotonic() - started
        exports.published(
            made.files, made.failures, read_rows=lease.exported_rows, read_bytes=made.read_bytes, seconds=seconds
        )
        for failure in made.failures:
            log.warning("format_failed", resource_id=lease.resource_id, format=failure.format, error=failure.error)
        log.info(
            "published" if any(file.announced for file in made.files) else "unchanged",
            resource_id=lease.resource_id,
            formats=[file.format for file in made.files],
            rows=made.rows,
            bytes=sum(file.manifest.length for file in made.files),
            read_bytes=made.read_bytes,
            uploaded_bytes=made.uploaded_bytes,
            reused_bytes=made.reused_bytes,
            changes=len(made.state.changes),
            source="standby" if made.state.on_standby else "primary",
            full=lease.is_full,
            seconds=round(seconds, 3),
        )
        return True

    def _export(self, lease: Lease) -> Made:
        """Export every format from one snapshot, so that they all show the same state, and store the files."""
        standby = self._standby
        if standby is not None:
            made = standby.first(
                lambda: self._export_on_standby(standby, lease), self._connection("control"), lease.resource_id
            )
            if made is not None:
                return made
        return self._export_from(self._database, hold_snapshot(self._connection("holder"), lease.relid), lease)

    def _export_on_standby(self, standby: Standby, lease: Lease) -> Made:
        self._discard_broken_connections()
        control = self._connection("control")
        try:
            holder, *_ = [self._connection(each, standby.database) for each in ("holder", "control", "segment")]
        except DumperError as error:
            raise StandbyUnusableError("standby_unavailable", error.message) from error
        made = self._export_from(standby.database, standby.hold_snapshot(holder, control, lease, self._abandon), lease)
        require_shown_by_primary(control, made.state)
        return made

    def _export_from(self, database: Database, snapshot: AbstractContextManager[TableState], lease: Lease) -> Made:
        control = self._connection("control")
        settings = reader_settings(control, self.settings.ckan_read_role)
        prefix = f"{lease.relid}-{lease.epoch}-{next(self._numbers)}-"
        lease.exported_rows = 0
        try:
            with snapshot as state:
                published = published_files(control, lease.resource_id)
                made = self._choose(lease, state, bool(published), self._reader(database, state, settings))
                if not made.choice.is_kept:
                    return made
                lease.expected_rows = state.estimated_rows * len({file_format(n).format for n in made.choice.formats})
                assembly = Assembly(
                    lease=lease,
                    state=state,
                    storage=self._storage,
                    compat=self.settings.compat,
                    published={} if lease.is_full else published,
                    announce=lambda key: announce(control, key),
                    source=lambda format_, of, compat: self._source(
                        database, lease, format_, of, compat, settings, prefix
                    ),
                    recipe=recipe_of(settings),
                    segment_bytes=self.settings.segment_bytes,
                    window=self._processes.count + 1,
                    abandon=self._abandon,
                )
                return assembly.make(made)
        finally:
            for path in self._spool.glob(f"{prefix}*"):
                path.unlink()

    def _choose(self, lease: Lease, state: TableState, has_files: bool, reader: SegmentReader) -> Made:
        """Whether the table as it is in the snapshot gets files, and which. Nothing is made yet."""
        selection = self.settings.selection
        assert lease.claimed_at is not None, "claimed"
        facts = Facts(lease.resource_id, has_files, lease.asked_at)
        choice = choose(selection, facts, lease.claimed_at)
        if not choice.is_kept or not selection.measures:
            return Made(state, choice)
        size = reader.measure(selection.min_rows)
        return Made(state, choose(selection, replace(facts, size=size), lease.claimed_at), size)

    def _source(
        self,
        database: Database,
        lease: Lease,
        format_: Format,
        state: TableState,
        compat: Compat,
        settings: tuple[tuple[str, str], ...],
        prefix: str,
    ) -> SegmentSource:
        reader = self._reader(database, state, settings)
        done = lease.exported_rows

        def progress(rows: int, *, final: bool) -> None:
            nonlocal done
            lease.exported_rows = done + rows
            if final:
                done += rows
            lease.require()

        return SegmentSource(
            reader=replace(reader, compat=compat),
            processes=self._processes,
            task=SegmentTask(
                database,
                replace(state, changes=()),  # may be many, and are nothing to those who only read
                format_.name,
                compat,
                settings,
                self.settings.lock_timeout_seconds,
                Fresh(None, None),
                self._spool,
            ),
            spool=self._spool,
            prefix=f"{prefix}{format_.name}-",
            progress=progress,
            abandon=self._abandon,
            cancel=lambda: _cancel(reader.witness, lease.relid),
            target_bytes=self.settings.segment_bytes,
        )

    def _reader(self, database: Database, state: TableState, settings: tuple[tuple[str, str], ...]) -> SegmentReader:
        return SegmentReader(
            connection=self._connection("segment", database),
            witness=self._connection("control", database),
            state=state,
            compat=self.settings.compat,
            settings=settings,
            lock_timeout_seconds=self.settings.lock_timeout_seconds,
            stop=self._abandon,
        )

    def _give_back(self, lease: Lease, error: Exception) -> None:
        self._leases.drop(lease)
        if self._abandon.is_set():
            exports.ended(self._formats, "abandoned")
            release(self._connection("control"), lease, error=None, retry_seconds=0)
            log.info("export_abandoned", resource_id=lease.resource_id)
            return
        exports.ended(self._formats, exports.ending_of(error))
        known = explain(error) if isinstance(error, psycopg.Error) else error
        message = known.message if isinstance(known, DumperError) else f"{type(known).__name__}: {known}"
        self.error = message
        retry_seconds = retry_delay_seconds(
            lease.attempts,
            self.settings.retry_initial_seconds,
            self.settings.retry_max_seconds,
            random.random(),  # noqa: S311 - jitter
        )
        report = log.info if isinstance(error, TableChangedError) else log.warning
        self._discard_broken_connections()
        try:
            release(self._connection("control"), lease, error=message, retry_seconds=retry_seconds)
        finally:
            report(
                "export_failed",
                resource_id=lease.resource_id,
                error=message,
                attempts=lease.attempts + 1,
                retry_seconds=round(retry_seconds, 1),
            )

    def _connection(self, purpose: str, database: Database | None = None) -> Connection:
        """Ours for that purpose, to the primary unless said otherwise."""
        key = database or self._database, purpose
        connection = self._connections.get(key)
        if connection is None or connection.closed:
            connection = self._connections[key] = key[0].connect(purpose)
        return connection

    def _discard_broken_connections(self) -> None:
        """A connection that is not idle after an export is in a state nobody meant: open another next time."""
        for key, connection in list(self._connections.items()):
            if connection.closed or connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                with suppress(psycopg.Error):
                    connection.close()
                del self._connections[key]


def _cancel(connection: Connection, relid: int) -> None:
    try:
        cancel_segments(connection, relid)
    except psycopg.OperationalError:
        # What breaks the export off is probably the same: the server is gone, and its COPYs go too.
        if not (connection.broken or connection.closed):
            raise
