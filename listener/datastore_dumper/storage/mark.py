"""The mark that a storage keeps: which database its objects are of. Who writes and reads it, and when, is `ownership`'s."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from uuid import UUID

from datastore_dumper.errors import ForeignStorageError
from datastore_dumper.storage.base import Storage

WAY_OUT = (
    "If this database is a copy, give it a storage of its own: another storage.disk.directory, storage.s3.bucket or "
    "storage.s3.prefix. If it takes the other's place (restored, upgraded, moved to this server), and no "
    "daemon of the other runs any more: `datastore-dumper adopt`."
)


@dataclass(frozen=True)
class Place:
    """Where a database is."""

    system_identifier: int
    database_oid: int
    database: str

    def same(self, other: Place) -> bool:
        """A database keeps its oid when it is renamed, and its name when it is restored from a dump."""
        return self.system_identifier == other.system_identifier and (
            self.database_oid == other.database_oid or self.database == other.database
        )

    def __str__(self) -> str:
        return f"database {self.database!r} (oid {self.database_oid}) of cluster {self.system_identifier}"


@dataclass(frozen=True)
class Mark:
    """What the storage keeps."""

    id: UUID
    seal: UUID
    place: Place

    def to_json(self) -> bytes:
        about = "The files beside this one are made by Datastore Dumper for this database alone."
        return json.dumps(
            {"about": about, "id": str(self.id), "seal": str(self.seal), **asdict(self.place)}, indent=1
        ).encode()


def mark_from_json(data: bytes) -> Mark:
    """Raises `ForeignStorageError` for what `to_json` cannot have made."""
    try:
        read = json.loads(data)
        place = Place(int(read["system_identifier"]), int(read["database_oid"]), str(read["database"]))
        return Mark(UUID(read["id"]), UUID(read["seal"]), place)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ForeignStorageError(f"The mark of the storage cannot be read: {error!r}", hint=WAY_OUT) from error


def read_mark(storage: Storage) -> Mark | None:
    """None: the storage is nobody's yet."""
    data = storage.read_mark()
    return None if data is None else mark_from_json(data)
