"""A long run of the state machine, half on disk and half on S3: `make test-deep STEPS=10000 SEED=1`.

Ends with one line of JSON. A run that fails is told step by step.
"""

from __future__ import annotations

import argparse
import json
import secrets
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click

from datastore_dumper.logs import configure_logging
from datastore_dumper.storage.base import Storage
from tests.machine.running import on_disk, on_s3, run
from tests.support.postgres import PostgresServer, running_server
from tests.support.seaweedfs import running_s3

STEPS_A_RUN = 50
BATCH = 8
"""Runs between two lines of progress; each batch has a seed of its own."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--storage", choices=["disk", "s3", "both"], default="both")
    parser.add_argument("--shrink", action="store_true", help="look for the shortest run that fails")
    options = parser.parse_args()
    configure_logging(level="error")
    began = time.monotonic()
    with running_server() as server, running_s3() as s3, tempfile.TemporaryDirectory() as directory:
        bucket = f"machine-{secrets.token_hex(4)}"
        s3.client().make_bucket(bucket)
        storages = {"disk": on_disk(Path(directory)), "s3": on_s3(s3, bucket)}
        kinds = list(storages) if options.storage == "both" else [options.storage]
        done = dict.fromkeys(kinds, 0)
        number = options.seed
        while sum(done.values()) < options.steps:
            for kind in kinds:
                done[kind] += _batch(server, storages[kind], number, options.shrink, kind)
            number += 1
            click.echo(f"{sum(done.values())} steps, {time.monotonic() - began:.0f} s")
    result = {"steps": sum(done.values()), **done, "seeds": [options.seed, number - 1], "failures": 0}
    click.echo(json.dumps({**result, "seconds": round(time.monotonic() - began)}))


def _batch(server: PostgresServer, storage: Callable[[str], Storage], number: int, shrink: bool, kind: str) -> int:
    try:
        return run(server, storage, runs=BATCH, steps=STEPS_A_RUN, seeded=number, shrink=shrink)
    except BaseException:
        click.echo(f"Failed: make test-deep STEPS=1 SEED={number} (on {kind})")
        raise


if __name__ == "__main__":
    main()
