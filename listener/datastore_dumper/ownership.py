"""Sees to it that one database alone publishes into a storage, and deletes there: a row in the database and a mark in the
storage must belong together. What is and what is not noticed: docs/explanation/copies.md.

The row's id is the mark's, or this is another database's storage. The mark says where its database is, or this is a copy
that was restored elsewhere. A physical copy is in the same place by all that can be asked, so there are seals: every few
minutes the mark gets the next of the row's, and of two databases that do that, one finds a seal that it never had.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from uuid import UUID

import psycopg

from datastore_dumper.database import Connection
from datastore_dumper.errors import ForeignStorageError, ObjectChangedError
from datastore_dumper.logs import get_logger
from datastore_dumper.sqlfiles import query
from datastore_dumper.storage.base import Storage
from datastore_dumper.storage.mark import WAY_OUT, Mark, Place, read_mark

log = get_logger(__name__)

SEAL_SECONDS = 300
"""Between seals. A copy is noticed if it is started later than two of them after it was made, or else after one more; and
a standby may be so far behind when it takes over."""

_IDLE_MILLISECONDS = 120_000  # longer than the storage may take to write the mark
_TRIES = 5  # each step may have been done by another daemon meanwhile: read again


@dataclass(frozen=True)
class Record:
    """The row of the database."""

    id: UUID
    marked: bool
    """The storage has been seen to have this id."""
    seal: UUID
    next_seal: UUID
    seal_is_due: bool
    is_disputed: bool
    """Somebody found that the storage was another's."""


class Verdict(Enum):
    """What a row and a mark say together, if they do not contradict each other."""

    OURS = auto()
    UNMARKED = auto()
    """A storage without a mark, which this database is about to begin in."""
    ANOTHER_STORAGE = auto()
    """A storage without a mark, while the published files are in one that has ours."""


def judge(record: Record, here: Place, mark: Mark | None) -> Verdict:
    """What is to be done. Raises `ForeignStorageError` if that is for the operator to say."""
    if mark is None:
        return Verdict.ANOTHER_STORAGE if record.marked else Verdict.UNMARKED
    if mark.id != record.id and mark.place.same(here):
        raise ForeignStorageError(
            f"The storage holds files of {here} that an installation before this one made", hint=WAY_OUT
        )
    if mark.id != record.id:
        raise ForeignStorageError(f"The storage holds the files of {mark.place}; this is {here}", hint=WAY_OUT)
    if not mark.place.same(here):
        raise ForeignStorageError(f"This {here} is a copy of {mark.place}, whose files the storage holds", hint=WAY_OUT)
    if mark.seal not in (record.seal, record.next_seal):
        raise ForeignStorageError(
            f"The storage was last used by another state of this {here}: this one, or the other, is a copy or was "
            "restored from a backup",
            hint=WAY_OUT,
        )
    return Verdict.OURS


class Ownership:
    """The storage of this process, and the id under which it may publish there. Used by one thread, read by others."""

    def __init__(self, storage: Storage, retain_seconds: Callable[[], float]) -> None:
        """`retain_seconds`: how long superseded objects are kept now."""
        self._storage = storage
        self._retain_seconds = retain_seconds
        self._id: UUID | None = None

    @property
    def id(self) -> UUID:
        """What publishing compares. `settle` comes first."""
        assert self._id is not None, "settle() comes first"
        return self._id

    def settle(self, connection: Connection) -> None:
        """Make sure that the storage is this database's, mark one that is nobody's, and turn the seal if it is time.

        In a storage that is new all files are made again. Raises `ForeignStorageError` if it is another's, and lets the
        plugin know: no file is fresh then.
        """
        for tries_left in reversed(range(_TRIES)):
            record = _record(connection)
            try:
                found = judge(record, _place(connection), read_mark(self._storage))
            except ForeignStorageError as error:
                if tries_left:
                    continue
                connection.execute(
                    query("note_conflict"), {"id": record.id, "seal": record.seal, "conflict": error.message}
                )
                raise
            if found is Verdict.OURS:
                if record.is_disputed or not record.marked:
                    connection.execute(query("note_ours"), {"id": record.id})
                if record.seal_is_due:
                    self._turn_seal(connection, record)
                self._id = record.id
                return
            if found is Verdict.ANOTHER_STORAGE:
                if begin_anew(connection, record.id, self._retain_seconds()):
                    log.warning("storage_is_new", note="it has no mark, so all files are made again")
            else:
                self._mark(connection, record.id, record.seal, replace=False)
        raise ForeignStorageError("The mark of the storage is gone again and again as soon as it is written")

    def adopt(self, connection: Connection) -> None:
        """Take the storage from whichever database it was, and make all files again."""
        begin_anew(connection, _record(connection).id, self._retain_seconds())
        record = _record(connection)
        self._mark(connection, record.id, record.seal, replace=True)
        self.settle(connection)

    def _mark(self, connection: Connection, installation: UUID, seal: UUID, *, replace: bool) -> None:
        try:
            self._storage.write_mark(Mark(installation, seal, _place(connection)).to_json(), replace=replace)
        except ObjectChangedError as error:
            log.info("mark_found", note=error.message)  # somebody was first: it is read next

    def _turn_seal(self, connection: Connection, record: Record) -> None:
        """If we die after writing the mark, it has the row's next seal, which is as good."""
        with connection.transaction():
            connection.execute(query("limit_idle"), {"milliseconds": _IDLE_MILLISECONDS})
            held = connection.execute(
                query("hold_seal"), {"id": record.id, "seal": record.seal, "next_seal": record.next_seal}
            ).fetchone()
            if held is not None:
                self._mark(connection, record.id, record.next_seal, replace=True)
                connection.execute(query("turn_seal"))


def verdict(connection: Connection, storage: Storage) -> Verdict:
    """`judge` of a database and a storage as they are. Changes nothing."""
    return judge(_record(connection), _place(connection), read_mark(storage))


def begin_anew(connection: Connection, installation: UUID, retain_seconds: float) -> bool:
    """Give the database another id, and forget the files that it had under the old one. False if another was first."""
    with connection.transaction():
        if connection.execute(query("begin_anew"), {"id": installation}).fetchone() is None:
            return False
        connection.execute(query("retire_all"), {"retain_seconds": retain_seconds})
    return True


def is_ours(connection: Connection, installation: UUID) -> bool:
    """Whether the id is still this database's, and will be until the end of the transaction."""
    return connection.execute(query("hold_installation"), {"id": installation}).fetchone() is not None


def _record(connection: Connection) -> Record:
    row = connection.execute(query("installation"), {"seal_seconds": SEAL_SECONDS}).fetchone()
    if row is None:
        raise psycopg.errors.NoData("datastore_dumper.installation has no row")
    return Record(*row)


def _place(connection: Connection) -> Place:
    row = connection.execute(query("place")).fetchone()
    assert row is not None, "one row"
    return Place(*row)
