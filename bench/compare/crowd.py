"""Many clients that download the same file at once, and what Postgres and CKAN have to do for them."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta

import urllib3

from bench.compare.ckan_dump import dump_url, read_all
from bench.compare.meter import Cost, Made
from bench.compare.product import Storage, dumper_for
from bench.compare.psql_script import PsqlScript
from bench.compare.stage import BUCKET, WEB_WORKERS, Stage
from bench.rig import forget
from datastore_dumper.install import install
from tests.support.installation import ROLES, handle

CLIENTS = 20
_PIECE_BYTES = 1 << 18
_ANSWER_SECONDS = 7200
_PLUGINS = ["datastore_dumper", "datastore"]
_PREFIX = "ckanext.datastore_dumper."


@dataclass(frozen=True)
class Crowd:
    """How it went for all clients together, in about the time that was asked for."""

    name: str
    title: str
    seconds: float
    downloads: float
    """Of those under way at the end, the part that had come counts."""
    finished: tuple[float, ...]
    """How long each took, in seconds."""
    unfinished: tuple[float, ...]
    """How long those under way at the end had taken until then."""
    cost: Cost
    """Its client is CKAN."""


@dataclass
class _Client:
    """One of them: downloads again and again, until `stop`."""

    url: str
    stop: float
    received_bytes: int = 0
    finished: list[float] = field(default_factory=list)
    unfinished: list[float] = field(default_factory=list)

    def run(self) -> None:
        with urllib3.PoolManager(timeout=urllib3.Timeout(_ANSWER_SECONDS), retries=urllib3.Retry(3)) as http:
            self._download(http)  # even where the machine had other things to do until time was up
            while time.perf_counter() < self.stop:
                self._download(http)

    def _download(self, http: urllib3.PoolManager) -> None:
        started = time.perf_counter()
        response = http.request("GET", self.url, preload_content=False)
        assert response.status == 200, (response.status, response.read()[:500])
        while piece := response.read(_PIECE_BYTES):
            self.received_bytes += len(piece)
            if time.perf_counter() > self.stop:
                response.close()
                self.unfinished.append(time.perf_counter() - started)
                return
        response.release_conn()
        self.finished.append(time.perf_counter() - started)


def run_crowd(stage: Stage, seconds: float) -> list[Crowd]:
    """The script's file first: no CKAN takes part in it, and none is at work for clients that have gone."""
    script = PsqlScript(stage, gzip=False)
    with script.opened():
        script.make()
    link = stage.bucket.presigned_get_object(BUCKET, script.key, expires=timedelta(hours=1))
    crowds = [
        _download(stage, seconds, script.name, "The bucket, without CKAN", link),
        _download(stage, seconds, "ckan-csv", "CKAN's own dump", dump_url(stage)),
    ]
    storages: tuple[tuple[Storage, str], ...] = (
        ("S3", "This product, S3: CKAN sends a link"),
        ("disk", "This product, disk: CKAN sends it"),
    )
    for storage, title in storages:
        _publish(stage, storage)
        crowds.append(_download(stage, seconds, f"ours-csv-{storage.lower()}", title, dump_url(stage)))
    return crowds


def _download(stage: Stage, seconds: float, name: str, title: str, url: str) -> Crowd:
    stage.say(f"{CLIENTS} clients: {title}")
    size = read_all(url)
    clients: list[_Client] = []

    def all_clients() -> Made:
        started = time.perf_counter()
        clients.extend(_Client(url, started + seconds) for _ in range(CLIENTS))
        with ThreadPoolExecutor(CLIENTS) as threads:
            for running in [threads.submit(client.run) for client in clients]:
                running.result()
        return Made(time.perf_counter() - started)

    assert stage.site.process is not None
    databases = [stage.portal.name, stage.site.databases.main]
    cost = stage.meter.measure([stage.site.process.pid], databases, all_clients)
    return Crowd(
        name=name,
        title=title,
        seconds=cost.seconds,
        downloads=sum(client.received_bytes for client in clients) / size,
        finished=tuple(sorted(each for client in clients for each in client.finished)),
        unfinished=tuple(sorted(each for client in clients for each in client.unfinished)),
        cost=cost,
    )


def _publish(stage: Stage, storage: Storage) -> None:
    """Have the product in CKAN's own DataStore, with a file that CKAN hands out."""
    name = f"crowd-{storage.lower()}"
    install(handle(stage.portal), ROLES)
    forget(stage.portal)
    dumper = dumper_for(stage, stage.portal, name, storage, ["csv"])
    command = [sys.executable, "-m", "datastore_dumper", "run", "--once", "-c", dumper.write_config()]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    kind = dumper.settings["storage"]["type"]
    settings = {f"{_PREFIX}{kind}.{key}": str(value) for key, value in dumper.settings["storage"][kind].items()}
    stage.site.restart(_PLUGINS, {f"{_PREFIX}storage": kind, **settings}, workers=WEB_WORKERS)
    answer = stage.site.get(dump_url(stage).removeprefix(stage.site.url))
    assert (answer.status == 302) if storage == "S3" else ("ETag" in answer.headers), answer.headers
