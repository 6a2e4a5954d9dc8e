"""Keeps house, round by round: whose the storage is, what there is to look after, and what nobody points to any more.

Each step is a module of its own; here is their order, and what becomes of a storage that is away.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from datastore_dumper import garbage
from datastore_dumper.database import Connection
from datastore_dumper.errors import ConfigError, ForeignStorageError, PermissionDeniedError, StorageError
from datastore_dumper.garbage import sweep
from datastore_dumper.inventory import take_stock
from datastore_dumper.logs import get_logger
from datastore_dumper.monitor import metrics
from datastore_dumper.monitor.monitor import Monitor
from datastore_dumper.ownership import Ownership
from datastore_dumper.publish import ABANDONED_SECONDS
from datastore_dumper.reader import reader_settings, recipe_of
from datastore_dumper.reconcile import reconcile
from datastore_dumper.storage.base import Storage
from datastore_dumper.worker import WorkSettings

log = get_logger(__name__)

_COLLECT_SECONDS = 20  # of each round: what is more waits, for tables must not
_SWEEP_SECONDS = 3600  # between looks for what is abandoned or lost, which list the bucket


class Housekeeping:
    """The rounds of one daemon. `settings` are those of now."""

    def __init__(
        self, storage: Storage, ownership: Ownership, monitor: Monitor, settings: Callable[[], WorkSettings]
    ) -> None:
        self._storage = storage
        self._ownership = ownership
        self._monitor = monitor
        self._settings = settings
        self._swept = float("-inf")
        self._unattached: frozenset[str] = frozenset()

    def round(self, connection: Connection) -> None:
        """All that is to be done now and then. Raises `ForeignStorageError` if the storage is another database's."""
        settled = self._settle(connection)
        self.reconcile(connection)
        if settled:
            if time.monotonic() - self._swept >= _SWEEP_SECONDS:
                self._swept = time.monotonic()
                sweep(self._storage, ABANDONED_SECONDS)
                take_stock(
                    connection,
                    self._storage,
                    abandoned_seconds=ABANDONED_SECONDS,
                    retain_seconds=self._settings().retain_seconds,
                )
            self._collect(connection, _COLLECT_SECONDS)
        self._monitor.house_kept()

    def reconcile(self, connection: Connection) -> None:
        """Bring what is looked after in line with the tables that are there."""
        settings = self._settings()
        started = time.monotonic()
        found = reconcile(
            connection,
            settings.selection,
            compats={each.name: str(each.format.compat(settings.compat)) for each in settings.formats},
            recipe=recipe_of(reader_settings(connection, settings.ckan_read_role)),
            retain_seconds=settings.retain_seconds,
        )
        self._monitor.health.reconciled(len(found.unattached), time.monotonic() - started)
        for resource_id, reason in found.unattached.items():
            if resource_id not in self._unattached:  # once, and again if it comes back
                log.warning("triggers_missing", resource_id=resource_id, error=reason)
        self._unattached = frozenset(found.unattached)

    def collect_garbage(self, connection: Connection) -> None:
        """Delete superseded objects, if the storage is known to be ours."""
        if self._settle(connection):
            self._collect(connection)

    def _collect(self, connection: Connection, most_seconds: float = math.inf) -> None:
        metrics.GARBAGE_DELETED.inc(garbage.collect_garbage(connection, self._storage, most_seconds).deleted)

    def _settle(self, connection: Connection) -> bool:
        """Whether the storage is known to be ours now. If it is another's, that is the daemon's end."""
        try:
            self._ownership.settle(connection)
        except ForeignStorageError:
            raise
        except (StorageError, PermissionDeniedError, ConfigError) as error:
            # A ConfigError is of a directory or a bucket that was there at the start: it may come back, as a mount does.
            self._monitor.health.settled(error.message)
            log.warning("storage_unverified", error=error.message)
            return False
        self._monitor.health.settled(None)
        return True
