"""Compares what lies in the storage with what the database knows of.

Superseded objects are on a list, from which the daemon deletes them. What is on no list was left by a database that was
restored or installed anew. The daemon puts it on the list, now and then; `datastore-dumper gc` deletes it at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from itertools import islice
from typing import Literal, TypeVar

from datastore_dumper.database import Connection
from datastore_dumper.logs import get_logger
from datastore_dumper.sqlfiles import query
from datastore_dumper.storage.base import Storage, StoredObject
from datastore_dumper.storage.keys import is_object_key

Kind = Literal["published", "kept", "due", "unreferenced", "young"]
"""kept: superseded, but a download may be under way. young: on no list, and too young to be sure about."""

_BATCH = 1000
_APART_SECONDS = 0.1
T = TypeVar("T")
log = get_logger(__name__)


@dataclass
class Leftovers:
    """Objects and bytes of each kind, and the objects that may go."""

    objects: dict[Kind, int] = field(default_factory=lambda: dict.fromkeys(_KINDS, 0))
    bytes: dict[Kind, int] = field(default_factory=lambda: dict.fromkeys(_KINDS, 0))
    unreferenced: list[StoredObject] = field(default_factory=list)


_KINDS: tuple[Kind, ...] = ("published", "kept", "due", "unreferenced", "young")


def enlist_unreferenced(
    connection: Connection, objects: Iterable[StoredObject], abandoned_seconds: float, retain_seconds: float
) -> int:
    """Have objects deleted that nobody knows of: those of `objects`, a listing, that are older than `abandoned_seconds`.

    Not all at once, but at most ten a second, beginning after `retain_seconds`: somebody may be downloading what a restored
    database has forgotten. The storage must be known to be ours. Returns how many objects.
    """
    before = datetime.now(timezone.utc) - timedelta(seconds=abandoned_seconds)
    old = (stored.key for stored in objects if stored.modified < before and is_object_key(stored.key))
    enlisted = 0
    for keys in _batches(old):
        enlisted += connection.execute(
            query("enlist_unreferenced"),
            {
                "keys": keys,
                "retain_seconds": retain_seconds + enlisted * _APART_SECONDS,
                "apart_seconds": _APART_SECONDS,
            },
        ).rowcount
    if enlisted:
        log.warning("unreferenced_found", objects=enlisted, note="they will be deleted")
    return enlisted


def find_leftovers(
    connection: Connection, storage: Storage, abandoned_seconds: float, tell: Callable[[int], None]
) -> Leftovers:
    """List the storage. What is younger than `abandoned_seconds` is left alone; `tell` gets the number of objects so far.

    Every object is put on the list before it is written, so one that is on none when it has been listed is nobody's. What
    has no key of ours is somebody else's, and not counted.
    """
    before = datetime.now(timezone.utc) - timedelta(seconds=abandoned_seconds)
    found = Leftovers()
    seen = 0
    for batch in _batches(storage.list()):
        kinds: dict[str, Kind] = dict(
            connection.execute(query("classify_objects"), {"keys": [stored.key for stored in batch]}).fetchall()
        )
        for stored in batch:
            if not is_object_key(stored.key):
                continue
            kind = kinds[stored.key]
            if kind == "unreferenced" and stored.modified >= before:
                kind = "young"
            if kind == "unreferenced":
                found.unreferenced.append(stored)
            found.objects[kind] += 1
            found.bytes[kind] += stored.length
        seen += len(batch)
        tell(seen)
    return found


def _batches(things: Iterator[T]) -> Iterator[list[T]]:
    while batch := list(islice(things, _BATCH)):
        yield batch
