"""CKAN's own dump over HTTP: made anew for each download, by a web worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import urllib3

from bench.compare.stage import Stage
from bench.tables import RESOURCE_ID
from tests.support.postgres import ScratchDatabase

_SECONDS = 7200  # of a dump, on the slowest machine
_PIECE_BYTES = 1 << 20


@dataclass
class CkanDump:
    """Its cost falls to each download, whatever changed before it."""

    stage: Stage
    format: str
    storage: str = "none"
    group: str = "CKAN's own dump"
    answer_bytes: int = field(default=0, init=False)

    @property
    def name(self) -> str:
        return f"ckan-{self.format}"

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
        return [self.stage.site.process.pid]

    @contextmanager
    def opened(self) -> Iterator[None]:
        yield

    def make(self) -> int:
        """Download it as a browser does. Bytes are read as they come, and dropped."""
        self.answer_bytes = read_all(dump_url(self.stage, self.format))
        return 0


def dump_url(stage: Stage, format_name: str = "csv") -> str:
    return f"{stage.site.url}/datastore/dump/{RESOURCE_ID}?format={format_name}"


def read_all(url: str) -> int:
    """The number of bytes of the answer, which is 200."""
    count = 0
    with urllib3.PoolManager(timeout=urllib3.Timeout(_SECONDS), retries=urllib3.Retry(3)) as http:
        response = http.request("GET", url, preload_content=False)
        assert response.status == 200, (response.status, response.read()[:500])
        while piece := response.read(_PIECE_BYTES):
            count += len(piece)
        response.release_conn()
    return count
