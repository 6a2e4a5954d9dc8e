"""Compares what lies in the storage with what the database knows of, and deletes what it does not.

A running daemon collects superseded objects by itself, from its list. What is on no list was left by a database that was
restored or installed anew; finding it takes a listing of the whole storage, which only an operator asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from itertools import islice
from typing import Literal

from datastore_dumper.database import Connection
from datastore_dumper.sqlfiles import query
from datastore_dumper.storage.base import Storage, StoredObject
from datastore_dumper.storage.keys import is_object_key

Kind = Literal["published", "kept", "due", "unreferenced", "young"]
"""kept: superseded, but a download may be under way. young: on no list, and too young to be sure about."""

_BATCH = 1000


@dataclass
class Leftovers:
    """Objects and bytes of each kind, and the objects that may go."""

    objects: dict[Kind, int] = field(default_factory=lambda: dict.fromkeys(_KINDS, 0))
    bytes: dict[Kind, int] = field(default_factory=lambda: dict.fromkeys(_KINDS, 0))
    unreferenced: list[StoredObject] = field(default_factory=list)


_KINDS: tuple[Kind, ...] = ("published", "kept", "due", "unreferenced", "young")


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


def _batches(objects: Iterator[StoredObject]) -> Iterator[list[StoredObject]]:
    while batch := list(islice(objects, _BATCH)):
        yield batch
