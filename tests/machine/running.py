"""Runs the state machine on a storage: as often and as long as is wanted, the same way each time or from a seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from datastore_dumper.storage.base import Storage
from datastore_dumper.storage.settings import DiskSettings, S3Settings, open_storage
from tests.machine.machine import Machine, surroundings
from tests.support.postgres import PostgresServer
from tests.support.seaweedfs import S3Server


def run(
    server: PostgresServer,
    open_storage: Callable[[str], Storage],
    *,
    runs: int,
    steps: int,
    seeded: int | None = None,
    shrink: bool = False,
) -> int:
    """So many runs of so many steps each; how many steps they were. Raises what the first failing run raised, with its
    steps as a note. Without a seed it is the same every time. `shrink`: look for a shorter one that fails."""
    with surroundings(server, open_storage) as around:

        def machine() -> Machine:
            made: Machine = type("Machine", (Machine,), {"surroundings": around})()
            return made

        run_state_machine_as_test(
            machine if seeded is None else seed(seeded)(machine),
            settings=settings(
                max_examples=runs,
                stateful_step_count=steps,
                derandomize=seeded is None,
                database=None,
                deadline=None,
                phases=[Phase.generate, *([Phase.shrink] if shrink else [])],
                report_multiple_bugs=False,
                suppress_health_check=list(HealthCheck),
            ),
        )
        return around.steps


def on_disk(directory: Path) -> Callable[[str], Storage]:
    """A directory for each run."""

    def opened(name: str) -> Storage:
        (directory / name).mkdir()
        return open_storage(DiskSettings(directory / name))

    return opened


def on_s3(server: S3Server, bucket: str) -> Callable[[str], Storage]:
    """A prefix for each run."""
    base = S3Settings(
        endpoint=server.endpoint,
        secure=server.secure,
        bucket=bucket,
        access_key=server.access_key,
        secret_key=server.secret_key,
    )
    return lambda name: open_storage(dataclasses.replace(base, prefix=name))
