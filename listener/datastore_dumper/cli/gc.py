"""`datastore-dumper gc`: deletes what the database does not point to any more, or says what that would be."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path

import click

from datastore_dumper.cli.options import config_option, database_of, read_config
from datastore_dumper.cli.show import bars
from datastore_dumper.config.storage import storage_settings
from datastore_dumper.database import Connection, database_errors
from datastore_dumper.errors import StorageError
from datastore_dumper.garbage import collect_garbage
from datastore_dumper.install import require_installed
from datastore_dumper.leftovers import Leftovers, find_leftovers
from datastore_dumper.logs import configure_logging
from datastore_dumper.ownership import Verdict, verdict
from datastore_dumper.publish import ABANDONED_SECONDS
from datastore_dumper.sqlfiles import query
from datastore_dumper.storage.base import Storage
from datastore_dumper.storage.settings import open_storage
from datastore_dumper.words import counted, shown_bytes

_WORDS = {
    "published": "published",
    "kept": "superseded, kept for downloads under way",
    "due": "superseded, to be deleted",
    "unreferenced": "known to nobody, to be deleted",
    "young": "known to nobody, but younger than a day",
}


@click.command()
@config_option
@click.option("--dry-run", is_flag=True, help="Delete nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with the keys of what is known to nobody.")
def gc(config_path: Path | None, dry_run: bool, as_json: bool) -> None:
    """Delete superseded files whose links have expired, objects that no table knows of, and unfinished uploads.

    The daemon does all of it by itself, within some hours. Objects and uploads younger than a day are left alone.
    """
    config = read_config(config_path)
    configure_logging("console", "error")
    storage = open_storage(storage_settings(config))
    with (
        database_of(config).connect("gc") as connection,
        database_errors(),
        bars("objects") as progress,
    ):
        require_installed(connection)
        _require_ours(connection, storage)
        task = progress.add_task("Listing", total=None)
        found = find_leftovers(
            connection, storage, ABANDONED_SECONDS, lambda count: progress.update(task, completed=count)
        )
        if not dry_run:
            progress.update(task, description="Deleting", completed=0, total=len(found.unreferenced))
            for stored in found.unreferenced:
                storage.delete(stored.key)
                progress.advance(task)
            refused = collect_garbage(connection, storage).refused
            (due,) = connection.execute(query("count_due_garbage")).fetchone() or (0,)
            if left := due + refused:
                raise StorageError(
                    f"{counted(left, 'superseded file')} could not be deleted",
                    hint="`datastore-dumper check` tries to delete an object, and says why it cannot.",
                )
        before = datetime.now(timezone.utc) - timedelta(seconds=ABANDONED_SECONDS)
        uploads = storage.sweep(before, dry_run=dry_run)
    click.echo(_json(found, uploads, dry_run=dry_run) if as_json else _text(found, uploads, dry_run=dry_run))


def _require_ours(connection: Connection, storage: Storage) -> None:
    """What a storage holds that is not marked as this database's is not ours to delete."""
    if verdict(connection, storage) is not Verdict.OURS:
        raise StorageError(
            "The storage has no mark of this database, so nothing in it is ours to delete",
            hint="Check storage.*; a daemon marks a storage that is new.",
        )


def _text(found: Leftovers, uploads: int, *, dry_run: bool) -> str:
    lines = [
        f"{count:>9,} {_WORDS[kind]} ({shown_bytes(found.bytes[kind])})"
        for kind, count in found.objects.items()
        if count or kind in ("published", "due", "unreferenced")
    ]
    lines.append(f"{uploads:>9,} unfinished upload{'' if uploads == 1 else 's'} older than a day, to be removed")
    if dry_run:
        lines.append("Nothing was deleted: this was a dry run.")
    elif uploads or found.objects["due"] or found.objects["unreferenced"]:
        lines.append("Deleted.")
    else:
        lines.append("There was nothing to delete.")
    return "\n".join(lines)


def _json(found: Leftovers, uploads: int, *, dry_run: bool) -> str:
    report = {
        "dry_run": dry_run,
        "objects": found.objects,
        "bytes": found.bytes,
        "unfinished_uploads": uploads,
        "unreferenced_keys": [stored.key for stored in found.unreferenced],
    }
    return json.dumps(report, ensure_ascii=False, indent=2)
