"""Deletes objects that nobody points to: superseded files once their links have expired, and those of dead exports."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from datastore_dumper.database import Connection
from datastore_dumper.errors import DumperError, UnavailableError
from datastore_dumper.failpoints import failpoint
from datastore_dumper.logs import get_logger
from datastore_dumper.sqlfiles import query
from datastore_dumper.storage.base import CHECK_PREFIX, Storage

log = get_logger(__name__)

_BATCH = 100  # rows stay locked while their objects are deleted
_REFUSED_SECONDS = 3600


@dataclass(frozen=True)
class Collected:
    """How many objects were deleted, and how many the storage refused to delete: those are tried again in an hour."""

    deleted: int
    refused: int


def collect_garbage(connection: Connection, storage: Storage, most_seconds: float = math.inf) -> Collected:
    """Delete what is due, for about so long at the most. While the storage is away, everything stays on the list."""
    deleted = refused = 0
    until = time.monotonic() + most_seconds
    while connection.execute(query("is_garbage_due")).fetchone() == (True,):
        with connection.transaction():
            keys = [key for (key,) in connection.execute(query("due_garbage"), {"most": _BATCH}).fetchall()]
            if keys:
                failpoint("before_garbage")
            gone, kept = _delete(storage, keys)
            if gone:
                failpoint("within_garbage")
                connection.execute(query("forget_garbage"), {"keys": gone})
            if kept:
                connection.execute(query("postpone_garbage"), {"keys": kept, "seconds": _REFUSED_SECONDS})
        if gone:
            failpoint("after_garbage")
        deleted += len(gone)
        refused += len(kept)
        if len(gone) + len(kept) < _BATCH or time.monotonic() >= until:
            break
    return Collected(deleted, refused)


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


def _delete(storage: Storage, keys: list[str]) -> tuple[list[str], list[str]]:
    """Which are deleted, and which the storage refuses to delete. Neither: it is away."""
    gone: list[str] = []
    refused: list[str] = []
    for key in keys:
        try:
            storage.delete(key)
        except UnavailableError as error:
            log.warning("garbage_kept", key=key, error=error.message)
            break
        except DumperError as error:
            log.warning("garbage_kept", key=key, error=error.message)
            refused.append(key)
        else:
            gone.append(key)
    return gone, refused
