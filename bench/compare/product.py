"""This product: the daemon with its default settings but quiet time 0, on a database and a storage of its own."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bench.compare.meter import Made
from bench.compare.stage import BUCKET, Stage
from bench.rig import request_full
from bench.tables import RESOURCE_ID
from datastore_dumper.install import install
from tests.support.daemon import DaemonProcess, Dumper
from tests.support.datastore import DUMPER_ROLE, READ_ROLE, WRITE_ROLE
from tests.support.installation import ROLES, handle
from tests.support.postgres import ScratchDatabase
from tests.support.waiting import eventually

Storage = Literal["disk", "S3"]
_SECONDS = 3600  # of an export, on the slowest machine
_LOOK_SECONDS = 0.002
# Triggers ring at most every 250 ms, and the daemon finds what comes sooner after its throttle interval.
_APART_SECONDS = 0.3
_pause = threading.Event()


@dataclass
class Product:
    """`format` and `storage` ("S3" or "disk") make a variant, whose database is the stage's copy of that name."""

    stage: Stage
    format: str
    storage: Storage
    group: str = "This product"
    _dumper: Dumper | None = field(default=None, init=False)
    _process: DaemonProcess | None = field(default=None, init=False)
    _quiet_seconds: float = field(default=0, init=False)

    @property
    def name(self) -> str:
        return name_of(self.format, self.storage)

    @property
    def title(self) -> str:
        return f"{self.group}, {self.storage}"

    @property
    def database(self) -> ScratchDatabase:
        return self.stage.copies[self.name]

    @property
    def databases(self) -> list[str]:
        return [self.database.name]

    @property
    def process(self) -> DaemonProcess:
        assert self._process is not None
        return self._process

    @property
    def roots(self) -> list[int]:
        return [self.process.process.pid]

    @contextmanager
    def opened(self) -> Iterator[None]:
        """While the daemon runs, and the table is published."""
        self._dumper = dumper_for(self.stage, self.database, self.name, self.storage, [self.format])
        install(handle(self.database), ROLES)
        with self._dumper.running() as self._process:
            eventually(self._is_fresh, timeout=_SECONDS)
            yield

    def make(self) -> int:
        return self.full().uploaded_bytes

    def full(self) -> Made:
        """All of it anew, as if nothing were published."""
        return self.react(lambda: request_full(self.database))

    def react(self, commit: Callable[[], object]) -> Made:
        """Make changes, and wait until a download gets a file that shows them. The time is from the last commit."""
        _pause.wait(_APART_SECONDS)
        events = len(self.process.events)
        commit()
        committed = time.perf_counter()
        files: list[dict[str, Any]] = []

        def is_done() -> bool:
            nonlocal events
            news = self.process.events[events:]
            events += len(news)
            made = [event for event in news if event["event"] in ("published", "unchanged")]
            files.extend(made)
            return bool(made) and self._is_fresh()

        eventually(is_done, timeout=_SECONDS, interval=_LOOK_SECONDS)
        seconds = time.perf_counter() - committed
        return Made(seconds, sum(event["uploaded_bytes"] for event in files))

    def wait_for_quiet(self, seconds: float) -> None:
        """Have changes gathered until there were none for so long, from now on."""
        if seconds != self._quiet_seconds:
            assert self._dumper is not None
            reloads = len(self.process.all("config_reloaded"))
            self._dumper.write_config(debounce={"quiet_seconds": seconds})
            self.process.process.send_signal(signal.SIGHUP)
            self.process.wait_for("config_reloaded", reloads + 1)
            self._quiet_seconds = seconds

    def _is_fresh(self) -> bool:
        with self.database.connect() as admin:
            row = admin.execute(
                "SELECT fresh FROM datastore_dumper.lookup(%s, %s)", [RESOURCE_ID, self.format]
            ).fetchone()
        return bool(row and row[0])


def name_of(format_name: str, storage: Storage) -> str:
    return f"ours-{format_name}-{storage.lower()}"


def dumper_for(stage: Stage, database: ScratchDatabase, name: str, storage: Storage, formats: list[str]) -> Dumper:
    """The daemon's configuration, with files of its own."""
    directory = stage.directory / name
    spool = directory / "spool"
    spool.mkdir(parents=True, exist_ok=True)
    return Dumper(
        database,
        directory,
        {
            "database": {"dsn": stage.dsn(database, DUMPER_ROLE)},
            "roles": {"daemon": DUMPER_ROLE, "ckan_write": WRITE_ROLE, "ckan_read": READ_ROLE},
            "ckan": {"compat": stage.site.platform.version},
            "debounce": {"quiet_seconds": 0},
            "export": {"formats": formats, "spool_directory": str(spool)},
            "storage": _disk(directory) if storage == "disk" else _bucket(stage, name),
            "log": {"format": "json"},
        },
    )


def _disk(directory: Path) -> dict[str, Any]:
    files = directory / "files"
    files.mkdir(exist_ok=True)
    return {"type": "disk", "disk": {"directory": str(files)}}


def _bucket(stage: Stage, prefix: str) -> dict[str, Any]:
    return {
        "type": "s3",
        "s3": {
            "endpoint": stage.s3.endpoint,
            "secure": stage.s3.secure,
            "bucket": BUCKET,
            "prefix": prefix,
            "access_key": stage.s3.access_key,
            "secret_key": stage.s3.secret_key,
        },
    }
