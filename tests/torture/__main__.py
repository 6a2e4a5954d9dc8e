"""The command line: a round on disk and a round on S3, and one line of JSON. Exit code 1 if anything is not as promised."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import get_args

import click

from tests.torture.plan import Storage
from tests.torture.run import Result, run_round


@click.command()
@click.option(
    "--seconds", type=click.FloatRange(min=5), default=60, show_default=True, help="Of torment, in all rounds."
)
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed makes the same plan.")
@click.option("--daemons", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--storage", type=click.Choice([*get_args(Storage), "both"]), default="both", show_default=True)
def main(seconds: float, seed: int, daemons: int, storage: str) -> None:
    """Torment daemons, and show that nothing is lost."""
    kinds: list[Storage] = [kind for kind in get_args(Storage) if storage in (kind, "both")]
    total = Result()
    for kind in kinds:
        total.add(run_round(seed, seconds / len(kinds), daemons, kind, lambda what: click.echo(what, err=True)))
    for problem in total.problems:
        click.echo(f"WRONG: {problem}", err=True)
    figures = asdict(total)
    del figures["problems"]
    click.echo(json.dumps({"seed": seed, "seconds": seconds, "daemons": daemons, **figures}, separators=(",", ":")))
    sys.exit(0 if total.is_good else 1)


if __name__ == "__main__":
    main()
