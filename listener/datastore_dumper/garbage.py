"""Deletes objects that nobody points to: superseded files once their links have expired, and those of dead exports."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from datastore_dumper.database import Connection
from datastore_dumper.errors import DumperError
from datastore_dumper.failpoints import failpoint
from datastore_dumper.logs import get_logger
from datastore_dumper.sqlfiles import query
from datastore_dumper.storage.base import CHECK_PREFIX, Storage

log = get_logger(__name__)

_BATCH = 100  # rows stay locked while their objects are deleted


def collect_garbage(connection: Connection, storage: Storage) -> int:
    """Delete what is due. Returns how many objects; those that the storage will not delete now stay on the list."""
    collected = 0
    while True:
        with connection.transaction():
            keys = [key for (key,) in connection.execute(query("due_garbage"), {"most": _BATCH}).fetchall()]
            if keys:
                failpoint("before_garbage")
            deleted = _delete(storage, keys)
            if deleted:
                failpoint("within_garbage")
                connection.execute(query("forget_garbage"), {"keys": deleted})
        if deleted:
            failpoint("after_garbage")
        collected += len(deleted)
        if len(deleted) < _BATCH:
            return collected


def sweep(storage: Storage, abandoned_seconds: float) -> None:
    """Remove uploads and temporary files that no process can still be writing, and what a check that was killed left."""
    before = datetime.now(timezone.utc) - timedelta(seconds=abandoned_seconds)
    try:
        removed = storage.sweep(before)
        for stored in list(storage.list(CHECK_PREFIX)):
            if stored.modified < before:
                storage.delete(stored.key)
                removed += 1
    except DumperError as error:
        log.warning("sweep_failed", error=error.message)
        return
    if removed:
        log.info("swept", removed=removed)


def _delete(storage: Storage, keys: list[str]) -> list[str]:
    deleted = []
    for key in keys:
        try:
            storage.delete(key)
        except DumperError as error:
            log.warning("garbage_kept", key=key, error=error.message)
            break
        deleted.append(key)
    return deleted
