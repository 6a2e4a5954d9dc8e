r"""The script that an administrator would write: `psql -c '\copy' | gzip | upload`, run by cron.

Its columns are as Postgres writes them, which is not how CKAN does: dates, arrays and JSON differ.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.compare.job_queue import storage_environment
from bench.compare.stage import BUCKET, Stage
from bench.tables import COLUMNS, RESOURCE_ID
from tests.support.datastore import READ_ROLE
from tests.support.postgres import ScratchDatabase

INTERVAL_SECONDS = 3600
"""Between two runs by cron."""
_UPLOAD = Path(__file__).with_name("upload.py")


@dataclass
class PsqlScript:
    """`gzip` or not, so that like is compared with like."""

    stage: Stage
    gzip: bool
    storage: str = "S3"
    group: str = "psql script"
    _shell: subprocess.Popen[str] | None = field(default=None, init=False)

    @property
    def name(self) -> str:
        return "psql-gzip" if self.gzip else "psql"

    @property
    def title(self) -> str:
        return "psql | gzip | upload" if self.gzip else "psql | upload"

    @property
    def format(self) -> str:
        return "csv.gz" if self.gzip else "csv"

    @property
    def key(self) -> str:
        return f"script.{self.format}"

    @property
    def database(self) -> ScratchDatabase:
        return self.stage.portal

    @property
    def databases(self) -> list[str]:
        return [self.stage.portal.name]

    @property
    def roots(self) -> list[int]:
        assert self._shell is not None
        return [self._shell.pid]

    @contextmanager
    def opened(self) -> Iterator[None]:
        """While a shell, in place of cron, waits for its command."""
        environment = {**os.environ, **storage_environment(self.stage)}
        with subprocess.Popen(
            ["bash", "-o", "pipefail", "-e"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        ) as self._shell:
            yield
            assert self._shell.stdin is not None
            self._shell.stdin.close()

    def make(self) -> int:
        assert self._shell is not None
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.write(self._command() + "\n")
        self._shell.stdin.flush()
        return int(self._shell.stdout.readline())

    def _command(self) -> str:
        columns = ", ".join(f'"{name}"' for name in ("_id", *COLUMNS))
        query = f'\\copy (SELECT {columns} FROM "{RESOURCE_ID}" ORDER BY _id) TO STDOUT (FORMAT csv, HEADER)'
        dsn = self.stage.dsn(self.stage.portal, READ_ROLE)
        psql = [str(self.stage.postgres_bin / "psql"), "--no-psqlrc", "--quiet", dsn, f"--command={query}"]
        upload = [sys.executable, str(_UPLOAD), BUCKET, self.key]
        return " | ".join(map(shlex.join, [psql, *([["gzip"]] if self.gzip else []), upload]))
