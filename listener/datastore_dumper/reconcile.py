"""Brings what the daemon looks after in line with the tables that are there, whatever happened while nobody watched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from datastore_dumper.choice import Choice, Facts, Selection, Size, choose
from datastore_dumper.database import Connection
from datastore_dumper.failpoints import failpoint
from datastore_dumper.install import attach_missing
from datastore_dumper.logs import get_logger
from datastore_dumper.monitor import metrics
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
    chosen: int = 0
    """Tables for which something else was decided than before."""


def reconcile(
    connection: Connection, selection: Selection, *, compats: Mapping[str, str], recipe: str, retain_seconds: float
) -> Reconciled:
    """Decide which tables get files, retire files of tables that are gone and those no longer wanted, follow renames, give
    tables their triggers, and mark as changed what no published file shows. A table whose lock is not to be had is left for
    the next time.

    `compats` says whose bytes the files in each format of the selection are to have, `recipe` under which settings of CKAN's read
    role (`reader.recipe_of`)."""
    formats = list(selection.formats)
    with connection.transaction():
        connection.execute(query("limit_idle"), {"milliseconds": _IDLE_MILLISECONDS})
        connection.execute(query("rename_resources"))
        chosen = _choose(connection, selection)
        retired = connection.execute(
            query("retire_orphans"), {"formats": formats, "retain_seconds": retain_seconds}
        ).fetchall()
        dropped = connection.execute(query("forget_resources")).fetchall()
        connection.execute(query("forget_orphan_failures"), {"formats": formats})
        connection.execute(query("forget_orphan_changes"))
        connection.execute(query("forget_unkept_changes"))
        failpoint("within_reconcile")
    for (resource_id,) in dropped:
        log.info("table_dropped", resource_id=resource_id)
    attached, unattached = attach_missing(connection)
    drifted = connection.execute(
        query("mark_drifted"),
        {"formats": formats, "all_formats": list(compats), "compats": list(compats.values()), "recipe": recipe},
    ).fetchall()
    found = Reconciled(attached, unattached, len(dropped), len(retired), len(drifted), chosen)
    for finding in metrics.FINDINGS:
        metrics.RECONCILE_FINDINGS.labels(finding).inc(getattr(found, finding))
    if replace(found, unattached={}) != Reconciled():
        log.info(
            "reconciled",
            attached=found.attached,
            dropped=found.dropped,
            retired=found.retired,
            drifted=found.drifted,
            chosen=found.chosen,
        )
    return found


def _choose(connection: Connection, selection: Selection) -> int:
    """Decide for every table, and note what is new. How many those are."""
    if selection.on_demand:
        connection.execute(query("count_as_asked"))
    chosen: list[tuple[int, Choice]] = []
    for row in connection.execute(query("choosable")):
        relid, resource_id, verdict, detail, formats, asked_at, has_files, rows, size, now = row
        choice = choose(selection, Facts(resource_id, has_files, asked_at, Size(rows, size)), now)
        if (verdict, detail, formats) != (choice.verdict, choice.detail, list(choice.formats)):
            chosen.append((relid, choice))
    if not chosen:
        return 0
    noted = connection.execute(
        query("note_choices"),
        {
            "relids": [relid for relid, _ in chosen],
            "choices": [choice.verdict for _, choice in chosen],
            "details": [choice.detail for _, choice in chosen],
            "formats": [",".join(choice.formats) for _, choice in chosen],
        },
    )
    return noted.rowcount
