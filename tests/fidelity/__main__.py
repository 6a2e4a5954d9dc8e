"""The command line of the comparison. Exit code 1 if there is a difference."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from datastore_dumper.logs import configure_logging
from tests.fidelity import run
from tests.support.ckan_env import DEFAULT_VERSION, VERSIONS
from tests.support.postgres import running_server


@click.command()
@click.option("--ckan", "release", type=click.Choice(VERSIONS), default=DEFAULT_VERSION, show_default=True)
@click.option("--tables", type=click.IntRange(min=1), default=200, show_default=True, help="How many to generate.")
@click.option("--seed", type=int, default=7, show_default=True, help="The same seed gives the same tables.")
def main(release: str, tables: int, seed: int) -> None:
    """Compare the daemon's files with a real CKAN's dumps, byte for byte."""
    configure_logging(level="error")  # formats that fail are in the report
    with (
        _progress(sys.stdout.isatty()) as progress,
        tempfile.TemporaryDirectory(prefix="datastore-dumper-fidelity-") as directory,
    ):
        progress(f"starting CKAN {release}", 0, 1)
        with running_server() as server, run.ckan_platform(server, release) as platform:
            progress(f"starting CKAN {release}", 1, 1)
            report = run.compare(platform, Path(directory), release, tables, seed, progress)
    for line in run.describe(report):
        click.echo(line)
    sys.exit(1 if report.differences else 0)


@contextmanager
def _progress(terminal: bool) -> Iterator[run.Progress]:
    """Bars on a terminal; elsewhere a line when something has come to its end."""
    if not terminal:

        def line(what: str, done: int, total: int) -> None:
            if done == total:
                click.echo(f"{what}: done")

        yield line
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console()) as bars:
        tasks = {}

        def bar(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield bar


if __name__ == "__main__":
    main(prog_name="python -m tests.fidelity")
