"""Asks the DataStore database how all is: one resource with its files, or a page of all of them; and for an export.

With CKAN's own engines and roles, as `lookup`; what the answers mean for a user is `downloads`'s business.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from ckanext.datastore.backend.postgres import get_write_engine

from ckanext.datastore_dumper.lookup import rows

READY, WAITING, EXPORTING, FAILING, UNKEPT = STATES = ("ready", "waiting", "exporting", "failing", "unkept")
"""Files show the table as it is; they do not, or there are none; they are being made; the last attempt failed; the daemon
is configured to keep none of this table now."""

NO_FILES = ("excluded", "too_small", "not_asked")
"""What may be decided of a table that gets no files."""

SORTS = ("resource_id", "state", "rows", "bytes", "generated_at", "pending_since", "pending_changes")
"""What the resources can be sorted by."""

_STATUS = sa.text(
    "SELECT pending_since, pending_changes, requested_at, exporting_since, exported_rows, expected_rows, attempts,"
    " retry_at, last_error, choice, choice_detail, asked_at, files::text AS files FROM datastore_dumper.status(:resource_id)"
)
_LIST = sa.text(
    "SELECT resource_id, state, formats, failed_formats, rows, bytes, generated_at, pending_since, pending_changes,"
    " requested_at, exporting_since, exported_rows, expected_rows, attempts, retry_at, last_error, choice,"
    " choice_detail, asked_at, totals::text AS totals"
    " FROM datastore_dumper.list(:search, :also_ids, :state, :sort, :is_descending, :most, :skipped)"
)
_REQUEST = sa.text("SELECT datastore_dumper.request(:resource_id, :is_full) AS requested_at")
_CHOICE = sa.text("SELECT choice, detail, formats, is_worth_asking FROM datastore_dumper.choice(:resource_id)")
_ASK = sa.text("SELECT datastore_dumper.ask(:resource_id) AS noted")
_DAEMONS = sa.text("SELECT datastore_dumper.daemons() AS daemons")


@dataclass(frozen=True)
class Choice:
    """Whether the daemon keeps files of a table."""

    choice: str | None
    """None: not decided yet."""
    detail: str | None
    formats: tuple[str, ...]
    is_worth_asking: bool
    """Whether `ask` has anything to note."""


@dataclass(frozen=True)
class FileStatus:
    """A published file, or a format in which the table cannot be had: then there is an error and no file."""

    format: str
    compat: str
    bytes: int
    rows: int
    generated_at: datetime | None
    """The time of the state that it shows."""
    fresh: bool
    seconds_behind: float | None
    """Since when it has not shown the table, as `lookup.seconds_behind`."""
    error: str | None


@dataclass(frozen=True)
class Work:
    """What the daemon has to do for a table, and is doing."""

    pending_since: datetime | None
    pending_changes: int
    """Transactions whose changes no file shows."""
    requested_at: datetime | None
    exporting_since: datetime | None
    exported_rows: int | None
    """Of all formats together, as `expected_rows`, which is an estimate."""
    expected_rows: int | None
    attempts: int
    retry_at: datetime | None
    last_error: str | None
    choice: str | None
    """Whether files are kept: ``always`` or ``on_demand``; ``excluded``, ``too_small`` or ``not_asked``: there are none."""
    choice_detail: str | None
    """Why there are none, in the daemon's words."""
    asked_at: datetime | None
    """When a visitor last asked for a file, to the hour; only with ``on_demand``."""


@dataclass(frozen=True)
class ResourceStatus(Work):
    """A table, its files, and what the daemon is about to do with it."""

    files: tuple[FileStatus, ...]

    @property
    def state(self) -> str:
        """One of `STATES`, by the rules of the SQL function `list`."""
        published = [file for file in self.files if file.error is None]
        if self.exporting_since is not None:
            return EXPORTING
        if self.choice in NO_FILES and self.requested_at is None and self.last_error is None:
            return UNKEPT
        if self.last_error is not None or (self.files and not published):
            return FAILING
        if self.requested_at is not None or not published or not all(file.fresh for file in published):
            return WAITING
        return READY


@dataclass(frozen=True)
class Entry(Work):
    """A row of the list of all resources."""

    resource_id: str
    state: str
    formats: tuple[str, ...]
    failed_formats: tuple[str, ...]
    rows: int | None
    bytes: int | None
    """Of all files together."""
    generated_at: datetime | None


@dataclass(frozen=True)
class Totals:
    """Over all resources, but for `found`: those that a search finds."""

    resources: int
    ready: int
    waiting: int
    exporting: int
    failing: int
    unkept: int
    files: int
    bytes: int
    found: int


def resource_status(resource_id: str) -> ResourceStatus | None:
    """None: there is no such table, or it is one that is left to CKAN. Raises as `lookup.published_file` does."""
    for row in rows(_STATUS, resource_id=resource_id):
        return ResourceStatus(**{**row, "files": tuple(_file(each) for each in json.loads(row["files"]))})
    return None


def resource_list(
    *,
    search: str | None,
    also_ids: list[str],
    state: str | None,
    sort: str,
    is_descending: bool,
    most: int,
    skipped: int,
) -> tuple[list[Entry], Totals]:
    """A page of the resources whose id contains `search` or is one of `also_ids`. Raises as `resource_status` does."""
    answer = rows(
        _LIST,
        search=search,
        also_ids=also_ids,
        state=state,
        sort=sort,
        is_descending=is_descending,
        most=most,
        skipped=skipped,
    )
    totals = Totals(**json.loads(answer[0]["totals"]))
    return [_entry(row) for row in answer if row["resource_id"] is not None], totals


def request_export(resource_id: str, *, is_full: bool) -> datetime | None:
    """Have the daemon export it now: when that was asked for, or None if there is no such table. Raises as the others."""
    (row,) = rows(_REQUEST, get_write_engine, resource_id=resource_id, is_full=is_full)
    requested_at: datetime | None = row["requested_at"]
    return requested_at


def choice(resource_id: str) -> Choice | None:
    """What was decided for the table; None: nobody looks after it. Raises as the others."""
    for row in rows(_CHOICE, resource_id=resource_id):
        return Choice(row["choice"], row["detail"], tuple(row["formats"] or ()), row["is_worth_asking"])
    return None


def ask(resource_id: str) -> bool:
    """Say that somebody who may have the table asked for it: whether that was noted, or known. Raises as the others."""
    (row,) = rows(_ASK, get_write_engine, resource_id=resource_id)
    return bool(row["noted"])


def daemon_count() -> int:
    """How many daemons are connected now. Raises as the others."""
    (row,) = rows(_DAEMONS)
    return int(row["daemons"])


def _file(values: dict[str, Any]) -> FileStatus:
    generated_at = values["generated_at"]
    return FileStatus(
        format=values["format"],
        compat=values["compat"],
        bytes=values["bytes"] or 0,
        rows=values["rows"] or 0,
        generated_at=datetime.fromisoformat(generated_at) if generated_at else None,
        fresh=bool(values["fresh"]),
        seconds_behind=values["seconds_behind"],
        error=values["error"],
    )


def _entry(row: dict[str, Any]) -> Entry:
    values = {name: value for name, value in row.items() if name != "totals"}
    return Entry(**{**values, "formats": tuple(row["formats"]), "failed_formats": tuple(row["failed_formats"])})
