"""The servers of a round: a Postgres that may crash, a proxy to it for each daemon, and a storage that may fail."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from datastore_dumper.config import load_config
from datastore_dumper.config.storage import storage_settings
from datastore_dumper.demo.child import stop_child
from datastore_dumper.demo.postgres import PrivatePostgres
from datastore_dumper.install import install
from datastore_dumper.storage.base import Storage as AnyStorage
from datastore_dumper.storage.settings import open_storage
from tests.support.daemon import Dumper
from tests.support.datastore import DUMPER_ROLE, READ_ROLE, WRITE_ROLE, prepare_datastore
from tests.support.faulty_front import Front, front
from tests.support.installation import ROLES, handle
from tests.support.postgres import Connection, PostgresServer, ScratchDatabase
from tests.support.proxy import Proxy, proxy_to
from tests.support.seaweedfs import running_s3
from tests.torture.ledger import FORMATS, install_ledger
from tests.torture.plan import Storage

_SETTINGS = {"max_connections": "300", "shared_buffers": "256MB"}
_DISK_BYTES = 600 * 1024 * 1024


@dataclass
class Arena:
    """Where a round takes place. `dumpers` has the configuration of each daemon, `direct` one without any fault."""

    storage_kind: Storage
    directory: Path
    postgres: PrivatePostgres
    server: PostgresServer
    database: ScratchDatabase
    proxies: list[Proxy] = field(default_factory=list)
    dumpers: list[Dumper] = field(default_factory=list)
    front: Front | None = None
    files: Path | None = None
    """The storage's directory, if it is one of a fixed size that can be filled."""
    _crashing: threading.Lock = field(default_factory=threading.Lock)

    @cached_property
    def storage(self) -> AnyStorage:
        """Reached without faults."""
        settings = {**self.dumpers[0].settings}
        if self.storage_kind == "s3":
            assert self.front is not None
            settings["storage"] = {"type": "s3", "s3": {**settings["storage"]["s3"], "endpoint": self.front.target}}
        reader = Dumper(self.database, self.directory / "direct", settings)
        return open_storage(storage_settings(load_config(reader.write_config(), {})))

    def connect(self, user: str | None = None) -> Connection:
        """To Postgres itself, wherever it listens now."""
        return self.database.connect(user)

    def crash_postgres(self) -> None:
        """SIGQUIT: an immediate shutdown, after which it recovers from the WAL. The proxies lead to where it is then."""
        with self._crashing:
            assert self.postgres._process is not None
            stop_child(self.postgres._process, ((signal.SIGQUIT, 10.0),))
            (self.postgres.directory / "data" / "postmaster.pid").unlink(missing_ok=True)
            self.postgres._start_server()
            object.__setattr__(self.server, "superuser_dsn", self.postgres.tcp_dsn())
            for proxy in self.proxies:
                proxy.lead_to("127.0.0.1", self.postgres.port)


@contextmanager
def open_arena(storage: Storage, daemons: int) -> Iterator[Arena]:
    """Start everything, with an empty DataStore and our SQL in it."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="datastore-dumper-torture-")))
        postgres = stack.enter_context(PrivatePostgres(tcp=True, fsync=False, settings=_SETTINGS))
        server = PostgresServer(postgres.tcp_dsn())
        server.create_roles(WRITE_ROLE, READ_ROLE, DUMPER_ROLE)
        database = ScratchDatabase(server, server.create_database("torture"))
        with database.connect() as admin:
            prepare_datastore(admin)
            install(handle(database), ROLES)
            install_ledger(admin)
        arena = Arena(storage, directory, postgres, server, database)
        (directory / "direct").mkdir()
        settings = _disk(arena, stack) if storage == "disk" else _s3(arena, stack)
        for number in range(daemons):
            proxy = stack.enter_context(proxy_to(server.superuser_dsn))
            arena.proxies.append(proxy)
            arena.dumpers.append(_dumper(arena, proxy, directory / f"daemon-{number}", settings))
        yield arena


def _dumper(arena: Arena, proxy: Proxy, directory: Path, storage: dict[str, Any]) -> Dumper:
    spool = directory / "spool"
    spool.mkdir(parents=True)
    return Dumper(
        arena.database,
        directory,
        {
            "database": {"dsn": proxy.dsn(arena.database.dsn_for(DUMPER_ROLE)), "connect_timeout_seconds": 3},
            "roles": {"daemon": DUMPER_ROLE, "ckan_write": WRITE_ROLE, "ckan_read": READ_ROLE},
            "debounce": {"quiet_seconds": 0.3, "max_delay_seconds": 2},
            "lease": {"ttl_seconds": 4},
            "export": {
                "formats": FORMATS,
                "segment_bytes": 512 * 1024,
                "spool_directory": str(spool),
                "retry_initial_seconds": 0.2,
                "retry_max_seconds": 2,
            },
            "look": {"interval_seconds": 1, "reconcile_interval_seconds": 3},
            "storage": {**storage, "link_expiry_seconds": 60, "grace_seconds": 0},
            "log": {"format": "json"},
            "shutdown_timeout_seconds": 10,
        },
    )


def _disk(arena: Arena, stack: ExitStack) -> dict[str, Any]:
    files = arena.directory / "files"
    files.mkdir()
    if os.geteuid() == 0 and sys.platform == "linux":
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "tmpfs", str(files)], capture_output=True
        )
        if mounted.returncode == 0:
            arena.files = files
            stack.callback(subprocess.run, ["umount", "--lazy", str(files)], check=True)
    return {"type": "disk", "disk": {"directory": str(files)}}


def _s3(arena: Arena, stack: ExitStack) -> dict[str, Any]:
    s3 = stack.enter_context(running_s3())
    bucket = f"torture-{secrets.token_hex(8)}"
    s3.client().make_bucket(bucket)
    arena.front = stack.enter_context(front(s3.endpoint))
    return {
        "type": "s3",
        "s3": {
            "endpoint": arena.front.endpoint,
            "secure": False,
            "bucket": bucket,
            "access_key": s3.access_key,
            "secret_key": s3.secret_key,
        },
    }
