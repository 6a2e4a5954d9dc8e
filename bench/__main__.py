"""The command line of the benchmarks. Exit code 0 whether goals are met or not: the table tells."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import click
from rich.console import Console

from bench import daemons, ddl, download, full, growth, gzip, latency, redump, scale, writers
from bench.measurements import Outcome
from bench.report import show, write
from bench.rig import Rig, open_rig

BENCHMARKS: dict[str, Callable[[Rig], Outcome]] = {
    "full": full.run,
    "gzip": gzip.run,
    "redump": redump.run,
    "writers": writers.run,
    "ddl": ddl.run,
    "latency": latency.run,
    "growth": growth.run,
    "download": download.run,
    "daemons": daemons.run,
    "scale": scale.run,
}
RESULTS = Path(__file__).with_name("results") / "latest.json"


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(BENCHMARKS)))
@click.option("--rows", type=click.IntRange(min=1000), default=2_000_000, show_default=True, help="Of the large table.")
@click.option(
    "--runs", type=click.IntRange(min=1), default=3, show_default=True, help="How often to measure what takes long."
)
@click.option(
    "--times",
    type=click.IntRange(min=1),
    default=200,
    show_default=True,
    help="Changes (latency) and DDL of each kind.",
)
@click.option(
    "--tables",
    type=click.IntRange(min=1),
    default=20_000,
    show_default=True,
    help="Small tables (scale; daemons takes 1000 of them at the most).",
)
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), default=RESULTS, help="The JSON file to write."
)
def main(names: tuple[str, ...], rows: int, runs: int, times: int, tables: int, output: Path) -> None:
    """Run benchmarks: those that are named, or all of them."""
    chosen = [name for name in BENCHMARKS if name in names or not names]
    console = Console(width=None if sys.stdout.isatty() else 140)
    progress = Console(stderr=True, style="dim")
    outcomes: dict[str, Outcome] = {}
    with open_rig(rows, runs, times, tables, lambda what: progress.print(what, highlight=False)) as rig:
        settings = {
            "rows": rows,
            "runs": runs,
            "times": times,
            "tables": tables,
            "postgres": rig.postgres.binaries.version,
        }
        for name in chosen:
            outcomes[name] = BENCHMARKS[name](rig)
            show(console, name, outcomes[name])
            write(output, outcomes, settings)  # what there is, in case a later one is interrupted


if __name__ == "__main__":
    main()
