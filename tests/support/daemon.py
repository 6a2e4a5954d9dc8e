"""Fixtures that run the real daemon: once and in this process, or as the process that an operator would start."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from datastore_dumper.cli.options import database_of
from datastore_dumper.config import Config, load_config
from datastore_dumper.config.storage import storage_settings
from datastore_dumper.daemon import Daemon
from datastore_dumper.install import install
from datastore_dumper.storage.base import Storage
from datastore_dumper.storage.settings import open_storage
from tests.support.datastore import create_table
from tests.support.installation import ROLES, handle
from tests.support.postgres import ScratchDatabase

SHORT_LEASE = {"ttl_seconds": 2}
"""For tests that wait until one has run out. In others a pause of the machine would end it, too."""
WAIT_SECONDS = 60
STOP_SECONDS = 90
"""More than the daemon takes at the most: shutdown_timeout_seconds, and twice 10 s for what does not heed."""


@dataclass
class Dumper:
    """A configuration for one database, and ways to run it."""

    database: ScratchDatabase
    directory: Path
    settings: dict[str, Any]

    def write_config(self, **sections: dict[str, Any]) -> Path:
        """The config file, with settings of whole sections merged in."""
        merged = {**self.settings}
        for name, section in sections.items():
            merged[name] = {**merged.get(name, {}), **section}
        path = self.directory / "config.yaml"
        path.write_text(yaml.safe_dump(merged), encoding="utf-8")
        return path

    def config(self, **sections: dict[str, Any]) -> Config:
        return load_config(self.write_config(**sections), {})

    @property
    def storage(self) -> Storage:
        return open_storage(storage_settings(self.config()))

    def once(self, **sections: dict[str, Any]) -> int:
        """`datastore-dumper run --once` in this process. Returns how many tables failed."""
        config = self.config(**sections)
        daemon = Daemon(config, database_of(config), open_storage(storage_settings(config)))
        daemon.check()
        return daemon.run_once()

    @contextmanager
    def running(self, env: Mapping[str, str] | None = None, **sections: dict[str, Any]) -> Iterator[DaemonProcess]:
        """The daemon as a process of its own, ended with SIGTERM. `env` is added to its environment."""
        with DaemonProcess.start(self.write_config(**sections), env) as process:
            process.wait_for("listening")
            yield process

    def is_fresh(self, resource_id: str = "t", format_name: str = "csv") -> bool:
        """What CKAN is told at this moment."""
        with self.database.connect("ckan_read") as reader:
            row = reader.execute(
                "SELECT fresh FROM datastore_dumper.lookup(%s, %s)", [resource_id, format_name]
            ).fetchone()
        return bool(row and row[0])

    def file(self, resource_id: str, format_name: str = "csv") -> bytes:
        """The bytes of the published file."""
        with self.database.connect() as admin:
            row = admin.execute(
                "SELECT storage_key FROM datastore_dumper.dump_status WHERE resource_id = %s AND format = %s",
                [resource_id, format_name],
            ).fetchone()
        assert row is not None, f"nothing is published for {resource_id} as {format_name}"
        with self.storage.open(row[0]) as stream:
            return stream.read()


@dataclass
class DaemonProcess:
    """A running daemon and its log, event by event."""

    process: subprocess.Popen[str]
    events: list[dict[str, Any]] = field(default_factory=list)
    _ended: bool = False
    """It has said its last."""
    _news: threading.Condition = field(default_factory=threading.Condition)

    @classmethod
    @contextmanager
    def start(cls, config: Path, env: Mapping[str, str] | None = None) -> Iterator[DaemonProcess]:
        with subprocess.Popen(
            [sys.executable, "-m", "datastore_dumper", "run", "-c", str(config)],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
        ) as process:
            started = cls(process)
            reader = threading.Thread(target=started._read)
            reader.start()
            try:
                yield started
                if process.poll() is None:
                    assert started.terminate() == 0, started.events[-5:]
            finally:
                if process.poll() is None:
                    process.kill()
                process.wait()
                reader.join()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            event = json.loads(line) if line.startswith("{") else {"event": "text", "text": line.rstrip()}
            with self._news:
                self.events.append(event)
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def all(self, event: str, **values: Any) -> list[dict[str, Any]]:
        """The logged events of that name with those values."""
        return [e for e in self.events if e["event"] == event and values.items() <= e.items()]

    def wait_for(
        self, event: str, count: int = 1, *, timeout_seconds: float = WAIT_SECONDS, **values: Any
    ) -> dict[str, Any]:
        """The count-th event of that name with those values, as soon as it is logged."""
        with self._news:
            found = self._news.wait_for(
                lambda: len(self.all(event, **values)) >= count or self._ended,
                timeout_seconds,
            )
            matching = self.all(event, **values)
            if not found or len(matching) < count:
                pytest.fail(f"no {event} {values} within {timeout_seconds:g} s: {self.events[-10:]}")
            return matching[count - 1]

    def children(self) -> set[int]:
        """The processes that it has started (proc(5), children)."""
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return {int(pid) for task in tasks for pid in read_process(task).split()}

    def worker_processes(self) -> set[int]:
        """Those of them that export segments."""
        return {pid for pid in self.children() if b"spawn_main" in read_process(Path(f"/proc/{pid}/cmdline"))}

    def terminate(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_SECONDS)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It does nothing during the block."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(WAIT_SECONDS)


def read_process(file: Path) -> bytes:
    """What a file below /proc says of a process or thread, which may have ended meanwhile: then nothing."""
    try:
        return file.read_bytes()
    except OSError:
        return b""


@pytest.fixture
def dumper(database: ScratchDatabase, tmp_path: Path) -> Dumper:
    """The daemon for `database`, with files in a temporary directory."""
    return dumper_for(database, tmp_path)


def dumper_for(database: ScratchDatabase, directory: Path) -> Dumper:
    """The daemon for a database, with all its files in a directory."""
    files = directory / "files"
    files.mkdir()
    return Dumper(
        database,
        directory,
        {
            "database": {"dsn": database.dsn_for("dumper")},
            "roles": {"daemon": "dumper", "ckan_write": "ckan_write", "ckan_read": "ckan_read"},
            "debounce": {"quiet_seconds": 0.2, "max_delay_seconds": 10},
            "export": {"spool_directory": str(directory), "retry_initial_seconds": 0.2},
            "look": {"interval_seconds": 2, "reconcile_interval_seconds": 60},
            "storage": {"type": "disk", "disk": {"directory": str(files)}},
            "log": {"format": "json"},
            "shutdown_timeout_seconds": 20,
        },
    )


@pytest.fixture
def writer(dumper: Dumper) -> Iterator[psycopg.Connection]:
    """A DataStore with our SQL installed and one table t, and a connection of CKAN's write role."""
    install(handle(dumper.database), ROLES)
    with dumper.database.connect("ckan_write") as connection:
        create_table(connection, "t", {"a": "text"})
        yield connection


@pytest.fixture
def published(dumper: Dumper) -> Callable[[], None]:
    """Publishes all that is due, in this process."""

    def publish() -> None:
        assert dumper.once() == 0

    return publish
