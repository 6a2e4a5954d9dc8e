"""The command line: `python -m bench.compare run`, and `python -m bench.compare page` for the page and charts alone."""

from __future__ import annotations

import json
import sys
from datetime import datetime, timezone
from pathlib import Path

import click
from rich.console import Console

from bench.compare.crowd import CLIENTS, run_crowd
from bench.compare.outcome import as_json
from bench.compare.page import write_page
from bench.compare.rounds import run_rounds
from bench.compare.stage import WEB_WORKERS, open_stage
from bench.compare.table import show
from bench.compare.ways import FORMATS, all_ways, copies
from bench.report import machine, rounded
from datastore_dumper import __version__

RESULTS = Path(__file__).parents[1] / "results" / "compare.json"
BENCHMARKS = RESULTS.with_name("latest.json")


@click.group()
def main() -> None:
    """Compare ways to a ready file."""


@main.command()
@click.option("--rows", type=click.IntRange(min=1000), default=200_000, show_default=True, help="Of the table.")
@click.option("--runs", type=click.IntRange(min=1), default=3, show_default=True, help="Rounds that are timed.")
@click.option("--commits", type=click.IntRange(min=2), default=1000, show_default=True, help="Of the burst.")
@click.option(
    "--quiet",
    type=click.FloatRange(min=0),
    default=1,
    show_default=True,
    help="The product's quiet time, in seconds, where a change has several commits.",
)
@click.option("--trials", type=click.IntRange(min=1), default=10, show_default=True, help="TRUNCATEs of each way.")
@click.option(
    "--seconds", type=click.FloatRange(min=0.1), default=20, show_default=True, help="How long clients download."
)
@click.option(
    "--format",
    "formats",
    type=click.Choice(FORMATS[1:]),
    multiple=True,
    default=FORMATS[1:],
    show_default=True,
    help="Beside CSV. May be given several times.",
)
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), default=RESULTS, help="The JSON file to write."
)
def run(
    rows: int,
    runs: int,
    commits: int,
    quiet: float,
    trials: int,
    seconds: float,
    formats: tuple[str, ...],
    output: Path,
) -> None:
    """Measure all ways, print the table and write the JSON file."""
    progress = Console(stderr=True, style="dim")
    with open_stage(rows, commits, quiet, copies(formats), lambda what: progress.print(what, highlight=False)) as stage:
        ways = all_ways(stage, formats)
        results = run_rounds(stage, ways, runs, trials)
        crowds = run_crowd(stage, seconds)
        outcome = {
            "made_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "version": __version__,
            "machine": machine(),
            "settings": {
                "rows": rows,
                "runs": runs,
                "commits": commits,
                "trials": trials,
                "clients": CLIENTS,
                "client_seconds": seconds,
                "web_workers": WEB_WORKERS,
                "postgres": stage.version,
                "ckan": stage.site.platform.version,
            },
            **as_json(ways, results, crowds, stage.load),
        }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(rounded(outcome), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    show(Console(width=None if sys.stdout.isatty() else 160), rounded(outcome))


@main.command()
@click.argument("results", type=click.Path(exists=True, dir_okay=False, path_type=Path), default=RESULTS)
def page(results: Path) -> None:
    """Write the figures of a JSON file, and those of the benchmarks, into docs/explanation/comparison.md and its charts."""
    write_page(*(json.loads(path.read_text(encoding="utf-8")) for path in (results, BENCHMARKS)))


if __name__ == "__main__":
    main()
