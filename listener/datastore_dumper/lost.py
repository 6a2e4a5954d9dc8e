"""Finds published files that are gone from the storage, or are others there: whoever asks gets CKAN's own dump until they
are made again. The storage is listed once and compared as a whole; what seems wrong is looked up before it is believed."""

from __future__ import annotations

from collections.abc import Iterable

from datastore_dumper.database import Connection
from datastore_dumper.errors import ObjectMissingError
from datastore_dumper.logs import get_logger
from datastore_dumper.sqlfiles import query
from datastore_dumper.storage.base import Storage, StoredObject

log = get_logger(__name__)

_MOST = 1000  # looked up one by one in a pass; the rest is found in the next


def retire_lost(
    connection: Connection, storage: Storage, objects: Iterable[StoredObject], retain_seconds: float
) -> int:
    """Take back what is published and not among `objects`, a listing, and mark the tables as changed. How many files.

    Raises what the storage fails with, and then nothing is taken back.
    """
    rows = connection.execute(query("published_objects")).fetchall()
    published: dict[str, tuple[str, int]] = {key: (etag, length) for key, etag, length in rows}
    sound = {s.key for s in objects if published.get(s.key) == (s.etag, s.length)}
    suspects = [key for key in published if key not in sound][:_MOST]
    lost = [key for key in suspects if not _is_there(storage, key, *published[key])]
    if not lost:
        return 0
    retired = connection.execute(query("retire_lost"), {"keys": lost, "retain_seconds": retain_seconds}).fetchall()
    for resource_id, _ in retired:
        log.warning("published_file_lost", resource_id=resource_id)
    return len(lost)


def _is_there(storage: Storage, key: str, etag: str, length: int) -> bool:
    try:
        stored = storage.stat(key)
    except ObjectMissingError:
        return False
    return (stored.etag, stored.length) == (etag, length)
