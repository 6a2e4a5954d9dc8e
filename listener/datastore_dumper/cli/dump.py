"""`datastore-dumper dump`: files of named tables, now."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click
from rich.progress import TaskID

from datastore_dumper.cli.options import config_option, database_of, read_config
from datastore_dumper.cli.show import bars, shown_text
from datastore_dumper.config import Config
from datastore_dumper.config.storage import storage_settings
from datastore_dumper.daemon import Daemon
from datastore_dumper.due import IMMEDIATELY
from datastore_dumper.dumping import Outcome, Progress, Wanted, dump_tables
from datastore_dumper.errors import EXIT_FAILURE
from datastore_dumper.logs import configure_logging, mask_text
from datastore_dumper.status import TableStatus, overview
from datastore_dumper.storage.settings import open_storage
from datastore_dumper.words import counted, printable, shown_bytes


@click.command()
@config_option
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@click.option("--full", is_flag=True, help="Read and store everything anew, and reuse nothing of what is published.")
@click.option("--json", "as_json", is_flag=True, help="Print what came of it as JSON.")
def dump(config_path: Path | None, ids: tuple[str, ...], full: bool, as_json: bool) -> int:
    """Publish the files of these resources now, with or without a running daemon."""
    config = read_config(config_path)
    configure_logging("console", "error")
    reports = dump_now(config, ids, full=full, quiet=as_json)
    if as_json:
        click.echo(json.dumps(reports, ensure_ascii=False, indent=2))
    return EXIT_FAILURE if any(report["error"] is not None for report in reports) else 0


def dump_now(config: Config, ids: Sequence[str], *, full: bool, quiet: bool) -> list[dict[str, object]]:
    """Export tables with bars, and say a line for each unless it shall be quiet. Returns what came of each.

    Raises `DumperError` if a name is none, `KeyboardInterrupt` if a signal ended it.
    """
    daemon = Daemon(config, database_of(config), open_storage(storage_settings(config)))
    daemon.check()
    with daemon.foreground(patient=False) as hands, bars("rows") as progress:
        found = overview(hands.connection, IMMEDIATELY, ids)
        tables = [Wanted(table.relid, table.resource_id) for table in found.tables]
        tasks: dict[Wanted, TaskID] = {}
        reports: list[dict[str, object]] = []

        def tell(table: Wanted, how_far: Progress) -> None:
            task = tasks.get(table)
            if task is None:
                task = tasks[table] = progress.add_task("", total=None)
            by = f" (by {how_far.owner})" if how_far.owner else ""
            progress.update(
                task,
                description=printable(f"{table.resource_id}{by}"),
                completed=how_far.rows,
                total=None if not how_far.expected_rows else max(how_far.expected_rows, how_far.rows),
            )

        def done(outcome: Outcome) -> None:
            if outcome.table in tasks:
                progress.remove_task(tasks.pop(outcome.table))
            now = next(iter(overview(hands.connection, IMMEDIATELY, relids=[outcome.table.relid]).tables), None)
            reports.append(_report(outcome, now))
            if not quiet:
                click.echo(_line(outcome, now), err=outcome.error is not None)

        dump_tables(hands, tables, full=full, concurrency=config.export.concurrency, tell=tell, done=done)
        stopped = hands.stop.is_set()
    if stopped:
        raise KeyboardInterrupt
    return reports


def _line(outcome: Outcome, now: TableStatus | None) -> str:
    if outcome.error is not None or now is None:
        return shown_text(f"{outcome.table.resource_id}: failed: {outcome.error}")
    files = ", ".join(f"{file.format} ({shown_bytes(file.bytes)})" for file in now.files)
    rows = max((file.rows for file in now.files), default=0)
    failures = "".join(f"; not as {name}: {error}" for name, error in now.failures.items())
    if now.state == "unkept":
        return shown_text(f"{now.resource_id}: no files are kept: {now.choice_detail}")
    return shown_text(f"{now.resource_id}: {counted(rows, 'row')}: {files or 'no files'}{failures}")


def _report(outcome: Outcome, now: TableStatus | None) -> dict[str, object]:
    return {
        "resource_id": outcome.table.resource_id,
        "error": None if outcome.error is None else mask_text(outcome.error),
        "rows": max((file.rows for file in now.files), default=None) if now is not None else None,
        "files": {file.format: file.bytes for file in now.files} if now is not None else {},
        "failures": {name: mask_text(error) for name, error in now.failures.items()} if now is not None else {},
        "unkept": now.choice_detail if now is not None and now.state == "unkept" else None,
    }
