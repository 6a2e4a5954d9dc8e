"""The way of a job queue: for each call of CKAN's API that changes the table, a job fetches CKAN's dump and uploads it.

As the public description of ckanext-datastore-dumper has it: `datastore_create` and `datastore_upsert` enqueue a job, which
asks CKAN for its live dump with a byte order mark and gives it to the file store. Here the worker runs already, starts a process
for each job as RQ does, and has nothing of CKAN in its memory, which is kinder than the truth.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.compare.ckan_dump import dump_url
from bench.compare.stage import BUCKET, Stage
from tests.support.postgres import ScratchDatabase

KEY = "job-queue.csv"
_WORKER = Path(__file__).with_name("job_worker.py")


@dataclass
class JobQueue:
    stage: Stage
    format: str = "csv"
    storage: str = "S3"
    group: str = "Job queue"
    _worker: subprocess.Popen[str] | None = field(default=None, init=False)

    @property
    def name(self) -> str:
        return "jobs"

    @property
    def title(self) -> str:
        return self.group

    @property
    def database(self) -> ScratchDatabase:
        return self.stage.portal

    @property
    def databases(self) -> list[str]:
        return [self.stage.site.databases.datastore, self.stage.site.databases.main]

    @property
    def roots(self) -> list[int]:
        assert self.stage.site.process is not None
        assert self._worker is not None
        return [self.stage.site.process.pid, self._worker.pid]

    @contextmanager
    def opened(self) -> Iterator[None]:
        """While the worker runs."""
        with subprocess.Popen(
            [sys.executable, _WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **storage_environment(self.stage)},
        ) as self._worker:
            yield
            assert self._worker.stdin is not None
            self._worker.stdin.close()

    def make(self) -> int:
        assert self._worker is not None
        assert self._worker.stdin is not None
        assert self._worker.stdout is not None
        job = {"url": dump_url(self.stage) + "&bom=True&latest=True", "bucket": BUCKET, "key": KEY}
        self._worker.stdin.write(json.dumps(job) + "\n")
        self._worker.stdin.flush()
        return int(self._worker.stdout.readline())


def storage_environment(stage: Stage) -> dict[str, str]:
    """Where scripts find the storage."""
    return {
        "S3_ENDPOINT": stage.s3.endpoint,
        "S3_ACCESS_KEY": stage.s3.access_key,
        "S3_SECRET_KEY": stage.s3.secret_key,
    }
