"""Publishes stored files: one transaction after which everybody is handed the new ones. Nothing before it is visible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from datastore_dumper.choice import NOT_MEASURED, Choice, Size
from datastore_dumper.database import Connection
from datastore_dumper.errors import ExportError, LeaseLostError, TableChangedError
from datastore_dumper.export import TableState
from datastore_dumper.failpoints import failpoint
from datastore_dumper.lease import Lease
from datastore_dumper.manifest import Manifest
from datastore_dumper.ownership import is_ours
from datastore_dumper.sqlfiles import query

ABANDONED_SECONDS = 24 * 3600
"""After so long an object that was announced and never published is deleted: the longest an export may take."""


@dataclass(frozen=True)
class PublishedFile:
    """What is published now for a resource in one format."""

    format: str
    key: str
    etag: str
    length: int
    digest: str
    compat: str
    relid: int
    filenode: int
    signature: str
    timeline: int
    manifest: Mapping[str, Any]
    """As `manifest_from_json` reads it."""


@dataclass(frozen=True)
class NewFile:
    """A file to publish. `announced` is False if it is the object that is published already."""

    format: str
    key: str
    etag: str
    content_type: str
    compat: str
    manifest: Manifest
    announced: bool


@dataclass(frozen=True)
class FailedFormat:
    """A format in which the table cannot be had."""

    format: str
    compat: str
    error: str


def published_files(connection: Connection, resource_id: str) -> dict[str, PublishedFile]:
    """What is published for a resource, by format."""
    rows = connection.execute(query("published"), {"resource_id": resource_id}).fetchall()
    return {row[0]: PublishedFile(*row) for row in rows}


def announce(connection: Connection, key: str) -> None:
    """Write down the key of an object about to be written, so that it is deleted if it is never published."""
    connection.execute(query("announce_object"), {"key": key, "abandoned_seconds": ABANDONED_SECONDS})


def publish(
    connection: Connection,
    lease: Lease,
    state: TableState,
    files: list[NewFile],
    failures: Sequence[FailedFormat] = (),
    *,
    choice: Choice,
    size: Size = NOT_MEASURED,
    installation: UUID,
    retain_seconds: float,
    duration_seconds: float,
) -> None:
    """Make `files` the published ones, note the formats that failed, forget the changes seen, and give the lease back.
    With neither, because of the `choice`, all files of the table are taken back. `size` is what that rests on.

    All or nothing. Raises `LeaseLostError` if the table is somebody else's by now, `TableChangedError` if its name is,
    `ExportError` if the storage is (its `installation` is not this database's any more), or if an object was collected or
    retired as garbage meanwhile.
    Files they replace are kept for `retain_seconds`.
    """
    identity = {"relid": lease.relid, "resource_id": state.table.resource_id}
    failpoint("before_publish")
    with connection.transaction():
        connection.execute(query("limit_idle"), {"milliseconds": int(lease.ttl_seconds * 1000)})
        held = connection.execute(
            query("hold_lease"),
            {
                **identity,
                "epoch": lease.epoch,
                "owner": lease.owner,
                "requested_at": lease.requested_at,
                "choice": choice.verdict,
                "choice_detail": choice.detail,
                "wanted_formats": list(choice.formats),
                "rows": max((file.manifest.rows for file in files), default=size.rows),
                "bytes": size.bytes,
            },
        ).fetchone()
        if held is None:
            raise LeaseLostError(f"Another daemon took {lease.resource_id} over; its export counts")
        _require_same_history(connection, state)
        if not is_ours(connection, installation):
            raise ExportError("The storage is not this database's any more: nothing is published there")
        for file in files:
            if (
                not file.announced
                and connection.execute(query("keep_object"), {**identity, "key": file.key}).rowcount == 0
            ):
                raise ExportError(f"The file of {lease.resource_id} was retired before it was published: {file.key}")
        connection.execute(
            query("retire_others"),
            {
                **identity,
                "formats": [*(file.format for file in files), *(failure.format for failure in failures)],
                "keys": [file.key for file in files],
                "retain_seconds": retain_seconds,
            },
        )
        announced = {file.key for file in files if file.announced}
        adopted = {key for (key,) in connection.execute(query("adopt_objects"), {"keys": list(announced)})}
        if lost := announced - adopted:
            raise ExportError(
                f"The new file of {lease.resource_id} was deleted before it was published: {', '.join(sorted(lost))}"
            )
        made = {
            **identity,
            "formats": [file.format for file in files],
            "keys": [file.key for file in files],
            "retain_seconds": retain_seconds,
        }
        connection.execute(query("retire_objects"), made)
        connection.execute(query("forget_failures"), made)
        for file in files:
            connection.execute(
                query("upsert_status"),
                {
                    **identity,
                    "format": file.format,
                    "key": file.key,
                    "etag": file.etag,
                    "bytes": file.manifest.length,
                    "rows": file.manifest.rows,
                    "digest": file.manifest.digest,
                    "content_type": file.content_type,
                    "compat": file.compat,
                    "snapshot": state.snapshot,
                    "lsn": state.lsn,
                    "timeline": state.timeline,
                    "signature": state.signature,
                    "filenode": state.filenode,
                    "manifest": Jsonb(file.manifest.to_json()),
                    "generated_at": state.generated_at,
                    "duration_seconds": duration_seconds,
                },
            )
        for failure in failures:
            connection.execute(
                query("upsert_failure"),
                {
                    **identity,
                    "format": failure.format,
                    "compat": failure.compat,
                    "error": failure.error,
                    "signature": state.signature,
                    "filenode": state.filenode,
                    "retain_seconds": retain_seconds,
                },
            )
        forgotten = connection.execute(
            query("forget_changes"),
            {**identity, "xids": [xid for xid, _ in state.changes], "buckets": [bucket for _, bucket in state.changes]},
        )
        if forgotten.rowcount != len(state.changes):
            # A crash may lose what a snapshot showed, if it was committed with synchronous_commit off.
            raise ExportError(f"Postgres does not have all changes any more that the file of {lease.resource_id} shows")
        # Last, when nobody else can publish under the name until we are done. Leases are of tables, and another one may have
        # taken the name and have been published meanwhile: ours would take its place.
        if connection.execute(query("still_named"), identity, prepare=True).rowcount == 0:
            raise TableChangedError(f"{state.table.resource_id} was dropped or renamed before its files were published")
        failpoint("within_publish")
    failpoint("after_publish")


def _require_same_history(connection: Connection, state: TableState) -> None:
    same = connection.execute(
        query("same_history"),
        {"server_started_at": state.server_started_at, "timeline": state.timeline, "lsn": state.lsn},
    ).fetchone()
    if same != (True,):
        raise ExportError(
            f"Postgres was restarted, failed over or restored while {state.table.resource_id} was exported: "
            "what the file shows may be lost"
        )
