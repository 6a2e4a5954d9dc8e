"""Whatever writers, operators and daemons do in whatever order, the promises hold: a short run of the state machine.

`make test-deep` runs it for long.
"""

from __future__ import annotations

from pathlib import Path

from tests.machine.running import on_disk, on_s3, run
from tests.support.postgres import PostgresServer
from tests.support.seaweedfs import S3Server

RUNS = 12
STEPS = 40


def test_on_disk(postgres_server: PostgresServer, tmp_path: Path) -> None:
    run(postgres_server, on_disk(tmp_path), runs=RUNS, steps=STEPS)


def test_on_s3(postgres_server: PostgresServer, s3_server: S3Server, s3_bucket: str) -> None:
    run(postgres_server, on_s3(s3_server, s3_bucket), runs=RUNS, steps=STEPS)
