"""Brings what the daemon looks after in line with the tables that are there, whatever happened while nobody watched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from datastore_dumper.database import Connection
from datastore_dumper.failpoints import failpoint
from datastore_dumper.install import attach_missing
from datastore_dumper.logs import get_logger
from datastore_dumper.sqlfiles import query

log = get_logger(__name__)

_IDLE_MILLISECONDS = 20_000  # between two statements that mend things for all tables


@dataclass(frozen=True)
class Reconciled:
    """What was mended."""

    attached: int = 0
    unattached: dict[str, str] = field(default_factory=dict)
    """Tables that still lack triggers, and why."""
    dropped: int = 0
    retired: int = 0
    drifted: int = 0


def reconcile(connection: Connection, *, compats: Mapping[str, str], retain_seconds: float) -> Reconciled:
    """Retire files of tables that are gone or of formats no longer wanted, follow renames, give tables their triggers, and
    mark as changed what no published file shows. A table whose lock is not to be had is left for the next time.

    `compats` has the formats that are wanted, by name, and whose bytes they are to have."""
    formats = list(compats)
    with connection.transaction():
        connection.execute(query("limit_idle"), {"milliseconds": _IDLE_MILLISECONDS})
        connection.execute(query("rename_resources"))
        retired = connection.execute(
            query("retire_orphans"), {"formats": formats, "retain_seconds": retain_seconds}
        ).fetchall()
        dropped = connection.execute(query("forget_resources")).fetchall()
        connection.execute(query("forget_orphan_failures"), {"formats": formats})
        connection.execute(query("forget_orphan_changes"))
        failpoint("within_reconcile")
    for (resource_id,) in dropped:
        log.info("table_dropped", resource_id=resource_id)
    attached, unattached = attach_missing(connection)
    for resource_id, reason in unattached.items():
        log.warning("triggers_missing", resource_id=resource_id, error=reason)
    drifted = connection.execute(
        query("mark_drifted"), {"formats": formats, "compats": list(compats.values())}
    ).fetchall()
    found = Reconciled(attached, unattached, len(dropped), len(retired), len(drifted))
    if found != Reconciled():
        log.info(
            "reconciled", attached=found.attached, dropped=found.dropped, retired=found.retired, drifted=found.drifted
        )
    return found
