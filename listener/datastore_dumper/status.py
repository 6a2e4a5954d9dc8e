"""How far each table is: fresh, waiting, due, being exported, failing, not kept. Reads; how it is shown is the command line's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from psycopg.rows import TupleRow

from datastore_dumper.choice import Verdict
from datastore_dumper.database import Connection
from datastore_dumper.due import Debounce, Pending, due_at
from datastore_dumper.errors import DumperError
from datastore_dumper.sqlfiles import query

State = Literal["exporting", "failing", "due", "waiting", "stale", "fresh", "unkept"]
"""stale: without a file that shows it although no change is recorded, which the reconciler will notice. unkept: without
files because the configuration wants none of it now (`choice`)."""

STATES: tuple[State, ...] = ("exporting", "failing", "due", "waiting", "stale", "fresh", "unkept")
"""In the order in which somebody who looks wants to see them."""


@dataclass(frozen=True)
class FileStatus:
    """One published file."""

    format: str
    rows: int
    bytes: int
    compat: str
    generated_at: datetime
    published_at: datetime
    seconds: float
    """How long it took."""
    key: str
    fresh: bool


@dataclass(frozen=True)
class ExportStatus:
    """An export under way. Rows are counted once for each format; None: not known."""

    owner: str
    since: datetime
    rows: int
    expected_rows: int | None


@dataclass(frozen=True)
class TableStatus:
    """One DataStore table."""

    relid: int
    resource_id: str
    state: State
    estimated_rows: int
    changes: int
    """Change rows that no file shows yet."""
    pending_since: datetime | None
    requested_at: datetime | None
    """When somebody asked for an export that is not there yet."""
    due_at: datetime | None
    """When its next export may begin; None if nothing is pending."""
    attempts: int
    """Exports that failed in a row."""
    error: str | None
    """Of the last of them."""
    export: ExportStatus | None
    files: tuple[FileStatus, ...]
    failures: dict[str, str] = field(default_factory=dict)
    """Formats in which the table cannot be had, and why."""
    choice: Verdict | None = None
    """Whether files are kept. None: not decided yet."""
    choice_detail: str | None = None
    """Why they are not."""
    asked_at: datetime | None = None
    """When a visitor last asked for a file, to the hour. Only with on_demand."""

    @property
    def published_at(self) -> datetime | None:
        return max((file.published_at for file in self.files), default=None)


@dataclass(frozen=True)
class Overview:
    """All tables that were asked for, at one time by the database's clock."""

    now: datetime | None
    """None if there are no tables."""
    tables: tuple[TableStatus, ...]
    daemons: int | None = None
    """How many are connected. None: not known, because a pooler hides it."""

    def counts(self) -> dict[State, int]:
        """How many tables are in each state."""
        found = Counter(table.state for table in self.tables)
        return {state: found[state] for state in STATES}

    def in_states(self, states: Sequence[State]) -> list[TableStatus]:
        """Those in one of the states, in the order of the states."""
        return sorted(
            (table for table in self.tables if table.state in states), key=lambda table: states.index(table.state)
        )


def overview(
    connection: Connection,
    debounce: Debounce,
    ids: Sequence[str] | None = None,
    *,
    relids: Sequence[int] | None = None,
) -> Overview:
    """Every table, or those with these ids or oids. Freshness of tables given by their ids is what CKAN would be told.

    Raises `DumperError` if one that was named is no DataStore table.
    """
    named = {"ids": None if ids is None else list(ids), "relids": None if relids is None else list(relids)}
    with connection.transaction():
        connection.execute(query("status_plan"))
        rows = connection.execute(query("status_tables"), named).fetchall()
    fresh: dict[tuple[str, str], bool] = {}
    if ids is not None:
        require_all(ids, (row[1] for row in rows))
        fresh = {(row[0], row[1]): row[2] for row in connection.execute(query("status_fresh"), {"ids": list(ids)})}
    return Overview(
        rows[0][-1] if rows else None, tuple(_table(row, debounce, fresh) for row in rows), daemons(connection)
    )


def daemons(connection: Connection) -> int | None:
    """How many daemons are connected. None: not known, because a pooler's sessions are named after whom they served last."""
    if connection.pooled:
        return None
    row = connection.execute(query("daemons")).fetchone()
    assert row is not None, "one row"
    count: int = row[0]
    return count


def require_all(ids: Iterable[str], found: Iterable[str]) -> None:
    """Raises `DumperError` for the first id that is not among those found."""
    known = set(found)
    for resource_id in ids:
        if resource_id not in known:
            raise DumperError(
                f"There is no DataStore table {resource_id}",
                hint="Give resource ids as CKAN has them; `datastore-dumper status --all` lists every table.",
            )


def state_of(
    *,
    exporting: bool,
    attempts: int,
    due: datetime | None,
    now: datetime,
    files: Sequence[FileStatus],
    failed: int,
    unkept: bool = False,
) -> State:
    """The state of a table. `due`: when its pending changes may be exported; `failed`: formats that cannot be had; `unkept`:
    there are to be no files, and nobody has asked for one."""
    if exporting:
        return "exporting"
    if unkept and not attempts:
        return "unkept"
    if due is not None:
        return "failing" if attempts else "due" if due <= now else "waiting"
    return "fresh" if (files or failed) and all(file.fresh for file in files) else "stale"


def _table(row: TupleRow, debounce: Debounce, fresh: dict[tuple[str, str], bool]) -> TableStatus:
    (relid, resource_id, estimated, changes, first, last, lease_until, retry_at, requested, owner, since, exported,
     expected, attempts, error, files, failures, choice, choice_detail, asked_at, now) = row  # fmt: skip
    exporting = owner is not None and lease_until > now
    due: datetime | None = None
    unkept = choice in ("excluded", "too_small", "not_asked") and requested is None
    if (first is not None or requested is not None) and not (unkept and choice != "too_small"):
        free = None if exporting else lease_until
        pending = Pending(
            relid, resource_id, first or requested, last or requested, free, retry_at, requested, attempts=attempts
        )
        due = due_at(pending, debounce)
    shown = tuple(
        _file(each, fresh.get((resource_id, each["format"]), first is None and each["current"])) for each in files
    )
    return TableStatus(
        relid=relid,
        resource_id=resource_id,
        state=state_of(
            exporting=exporting,
            attempts=attempts,
            due=due,
            now=now,
            files=shown,
            failed=len(failures),
            unkept=unkept,
        ),
        estimated_rows=estimated,
        changes=changes,
        pending_since=first,
        requested_at=requested,
        due_at=due,
        attempts=attempts,
        error=error,
        export=ExportStatus(owner, since, exported or 0, expected) if exporting else None,
        files=shown,
        failures={each["format"]: each["error"] for each in failures},
        choice=choice,
        choice_detail=choice_detail,
        asked_at=asked_at,
    )


def _file(found: dict[str, Any], fresh: bool) -> FileStatus:
    return FileStatus(
        format=found["format"],
        rows=found["rows"],
        bytes=found["bytes"],
        compat=found["compat"],
        generated_at=datetime.fromisoformat(found["generated_at"]),
        published_at=datetime.fromisoformat(found["published_at"]),
        seconds=found["seconds"],
        key=found["key"],
        fresh=fresh,
    )
