"""`datastore-dumper verify`: whether published files are what the tables give now."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import click

from datastore_dumper.cli.dump import dump_now
from datastore_dumper.cli.options import config_option, database_of, read_config
from datastore_dumper.cli.show import bars
from datastore_dumper.config import Config
from datastore_dumper.config.storage import storage_settings
from datastore_dumper.database import database_errors
from datastore_dumper.due import IMMEDIATELY
from datastore_dumper.errors import EXIT_FAILURE
from datastore_dumper.install import require_installed
from datastore_dumper.lifecycle import Supervisor, stop_signals
from datastore_dumper.logs import configure_logging, mask_text
from datastore_dumper.spool import spool_directory
from datastore_dumper.status import overview
from datastore_dumper.storage.settings import open_storage
from datastore_dumper.verify import Finding, Verdict, Verifier
from datastore_dumper.watchdog import watch
from datastore_dumper.wiring import work_settings
from datastore_dumper.words import counted, printable, shown_bytes

_WORDS: dict[Finding, str] = {
    "same": "same",
    "changed": "changed since",
    "differs": "DIFFERS",
    "missing": "MISSING",
    "failed": "could not be compared",
}


@click.command()
@config_option
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--sample", type=click.IntRange(min=1), help="Take so many tables at random.")
@click.option("--repair", is_flag=True, help="Publish the tables of wrong files again, in full.")
@click.option("--json", "as_json", is_flag=True, help="Print a verdict for each file as JSON.")
def verify(config_path: Path | None, ids: tuple[str, ...], sample: int | None, repair: bool, as_json: bool) -> int:
    """Export tables again, under a snapshot, and compare with their published files, byte for byte.

    A file whose table has changed since cannot be compared, and is not wrong: CKAN does not hand it out. Exits with 1 if
    a file is wrong, also if it was repaired, or could not be compared.
    """
    config = read_config(config_path)
    configure_logging("console", "error")
    verdicts: list[Verdict] = []

    def say(verdict: Verdict) -> None:
        verdicts.append(verdict)
        if not as_json and verdict.finding not in ("same", "changed"):
            click.echo(_text(verdict))

    _verify(config, ids, sample, say)
    wrong = sorted({verdict.resource_id for verdict in verdicts if verdict.is_wrong})
    repaired = dump_now(config, wrong, full=True, quiet=as_json) if repair and wrong else []
    if as_json:
        click.echo(_json(verdicts, repaired))
    else:
        click.echo(_summary(verdicts))
    return EXIT_FAILURE if wrong or any(verdict.finding == "failed" for verdict in verdicts) else 0


def _verify(config: Config, ids: tuple[str, ...], sample: int | None, say: Callable[[Verdict], None]) -> None:
    """Raises `DumperError`, and `KeyboardInterrupt` if a signal ended it."""
    database = database_of(config)
    storage = open_storage(storage_settings(config))
    supervisor = Supervisor()
    with (
        stop_signals(supervisor.shut_down, supervisor.shut_down),
        spool_directory(config.export.spool_directory) as spool,
        database_errors(),
        bars("bytes") as progress,
    ):
        verifier = Verifier(database, storage, work_settings(config), spool, supervisor.stop)
        try:
            with database.connect("verify") as connection:
                require_installed(connection)
                if ids:
                    overview(connection, IMMEDIATELY, ids)  # refuses names that are none
            supervisor.start("watch", lambda: watch(database, supervisor.stop, lambda: True))
            tables = verifier.tables(ids or None)
            if sample is not None and sample < len(tables):
                tables = random.sample(tables, sample)
            task = progress.add_task("", total=sum(table.bytes for table in tables))
            done = 0

            def tell(count: int) -> None:
                progress.update(task, completed=done + count)

            for table in tables:
                progress.update(task, description=printable(table.resource_id))
                verdicts = verifier.verify(table, tell)
                if supervisor.stop.is_set():
                    break
                for verdict in verdicts:
                    say(verdict)
                done += table.bytes
            interrupted = supervisor.stop.is_set()
        finally:
            supervisor.shut_down()
            verifier.close()
    if supervisor.failure is not None:
        raise supervisor.failure
    if interrupted:
        raise KeyboardInterrupt


def _text(verdict: Verdict) -> str:
    name = f"{printable(verdict.resource_id)} {verdict.format}".strip()
    lines = [f"{name}: {_WORDS[verdict.finding]}{f': {printable(verdict.detail)}' if verdict.detail else ''}"]
    if verdict.difference is not None:
        lines += [
            f"  published: {_shown(verdict.difference.published)}",
            f"  expected:  {_shown(verdict.difference.expected)}",
        ]
    return mask_text("\n".join(lines))


def _shown(line: bytes) -> str:
    """As it stands in a Python program, without the b: what is not printable shows."""
    return repr(line)[2:-1] or "(the file ends)"


def _summary(verdicts: list[Verdict]) -> str:
    counts = Counter(verdict.finding for verdict in verdicts)
    found = ", ".join(f"{counts[finding]} {word.lower()}" for finding, word in _WORDS.items() if counts[finding])
    size = shown_bytes(sum(verdict.bytes for verdict in verdicts if verdict.finding != "changed"))
    return f"{counted(len(verdicts), 'file')}: {found} ({size} compared)." if verdicts else "There are no files."


def _json(verdicts: list[Verdict], repaired: list[dict[str, object]]) -> str:
    def report(verdict: Verdict) -> dict[str, object]:
        found = {**asdict(verdict), "detail": mask_text(verdict.detail)}
        if verdict.difference is not None:
            found["difference"] |= {
                "published": _shown(verdict.difference.published),
                "expected": _shown(verdict.difference.expected),
            }
        return found

    return json.dumps(
        {"files": [report(verdict) for verdict in verdicts], "repaired": repaired}, ensure_ascii=False, indent=2
    )
