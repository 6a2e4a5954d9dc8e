"""Takes stock of the storage: lists it once, and compares it with what the database knows of, both ways."""

from __future__ import annotations

from datastore_dumper.database import Connection
from datastore_dumper.errors import DumperError
from datastore_dumper.leftovers import enlist_unreferenced
from datastore_dumper.logs import get_logger
from datastore_dumper.lost import retire_lost
from datastore_dumper.storage.base import Storage

log = get_logger(__name__)


def take_stock(connection: Connection, storage: Storage, *, abandoned_seconds: float, retain_seconds: float) -> None:
    """What is published and not there is made again; what is there and known to nobody is deleted. The storage must be known
    to be ours. What it fails with is logged, and then nothing is done."""
    try:
        objects = list(storage.list())
        retire_lost(connection, storage, objects, retain_seconds)
    except DumperError as error:
        log.warning("storage_not_compared", error=error.message)
        return
    enlist_unreferenced(connection, objects, abandoned_seconds, retain_seconds)
