"""What benchmarks run on: a private Postgres with CKAN's roles, loaded tables, an S3 service, the daemon as a process."""

from __future__ import annotations

import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bench.tables import RESOURCE_ID, load
from datastore_dumper.demo.postgres import PrivatePostgres
from datastore_dumper.install import install
from tests.support.daemon import DaemonProcess, Dumper
from tests.support.datastore import DUMPER_ROLE, READ_ROLE, WRITE_ROLE, prepare_datastore
from tests.support.installation import ROLES, handle
from tests.support.postgres import PostgresServer, ScratchDatabase
from tests.support.seaweedfs import S3Server, running_s3

StorageKind = Literal["disk", "s3"]
_EXPORT_SECONDS = 300  # of the longest export, on the slowest machine
# Changes that have nothing to do with each other: triggers ring at most every 250 ms, and the daemon finds what comes
# sooner after its throttle interval.
_APART_SECONDS = 0.3
_pause = threading.Event()


@dataclass(frozen=True)
class Export:
    """One publication: seconds from the commit to the daemon's word that it is published, and what it said."""

    seconds: float
    event: dict[str, Any]


@dataclass
class Rig:
    """`rows` is the size of the large table, `runs` how often things are measured that take long, and `times` how often
    those that are quick and need a distribution."""

    rows: int
    runs: int
    times: int
    tables: int
    """How many there are where many small ones are measured."""
    postgres: PrivatePostgres
    server: PostgresServer
    directory: Path
    say: Callable[[str], None]
    _stack: ExitStack
    _loaded: dict[int, ScratchDatabase] = field(default_factory=dict)
    _s3: S3Server | None = None

    def empty(self) -> ScratchDatabase:
        """A new DataStore without tables."""
        database = ScratchDatabase(self.server, self.server.create_database("bench"))
        with database.connect() as connection:
            prepare_datastore(connection)
        return database

    def loaded(self, rows: int) -> ScratchDatabase:
        """A DataStore with one table `RESOURCE_ID` of so many rows, with our schema; the same one every time."""
        if rows not in self._loaded:
            self.say(f"loading {rows:,} rows")
            database = self.empty()
            load(database, rows)
            install(handle(database), ROLES)
            self._loaded[rows] = database
        return self._loaded[rows]

    @contextmanager
    def copy_of(self, database: ScratchDatabase) -> Iterator[ScratchDatabase]:
        """The same once more, for the time of the block. Nobody may be connected to the first."""
        with self.server.new_database("copy", template=database.name) as name:
            yield ScratchDatabase(self.server, name)

    def drop(self, rows: int) -> None:
        """Give the space of a large table back."""
        self.server.drop_database(self._loaded.pop(rows).name)

    @contextmanager
    def daemon(self, database: ScratchDatabase, kind: StorageKind, **export: Any) -> Iterator[RunningDaemon]:
        """The daemon at work with quiet time 0, and the table of the database published once. All else is default."""
        with tempfile.TemporaryDirectory(dir=self.directory) as name, ExitStack() as stack:
            directory = Path(name)
            spool = directory / "spool"
            spool.mkdir()
            storage = self._disk(directory) if kind == "disk" else self._bucket(stack)
            dumper = Dumper(database, directory, self._settings(database, spool, storage, **export))
            forget(database)
            process = stack.enter_context(dumper.running())
            process.wait_for("published", timeout_seconds=_EXPORT_SECONDS)
            yield RunningDaemon(process, database, spool)

    @contextmanager
    def many(self, databases: list[ScratchDatabase], kind: StorageKind) -> Iterator[tuple[Dumper, list[DaemonProcess]]]:
        """A daemon for each entry, with one storage, and nothing published yet."""
        with tempfile.TemporaryDirectory(dir=self.directory) as name, ExitStack() as stack:
            directory = Path(name)
            storage = self._disk(directory) if kind == "disk" else self._bucket(stack)
            dumpers = []
            for number, database in enumerate(databases):
                own = directory / f"daemon-{number}"
                (own / "spool").mkdir(parents=True)
                dumpers.append(Dumper(database, own, self._settings(database, own / "spool", storage)))
            for database in {each.name: each for each in databases}.values():
                forget(database)
            yield dumpers[0], [stack.enter_context(dumper.running()) for dumper in dumpers]

    def _settings(
        self, database: ScratchDatabase, spool: Path, storage: dict[str, Any], **export: Any
    ) -> dict[str, Any]:
        return {
            "database": {"dsn": database.dsn_for(DUMPER_ROLE)},
            "roles": {"daemon": DUMPER_ROLE, "ckan_write": WRITE_ROLE, "ckan_read": READ_ROLE},
            "debounce": {"quiet_seconds": 0},
            "export": {"formats": ["csv"], "spool_directory": str(spool), **export},
            "storage": storage,
            "log": {"format": "json"},
        }

    def _disk(self, directory: Path) -> dict[str, Any]:
        files = directory / "files"
        files.mkdir()
        return {"type": "disk", "disk": {"directory": str(files)}}

    def _bucket(self, stack: ExitStack) -> dict[str, Any]:
        if self._s3 is None:
            self._s3 = self._stack.enter_context(running_s3())
        client, bucket = self._s3.client(), f"bench-{secrets.token_hex(8)}"
        client.make_bucket(bucket)

        def remove() -> None:
            for item in client.list_objects(bucket, recursive=True):
                assert item.object_name is not None
                client.remove_object(bucket, item.object_name)
            client.remove_bucket(bucket)

        stack.callback(remove)
        return {
            "type": "s3",
            "s3": {
                "endpoint": self._s3.endpoint,
                "secure": self._s3.secure,
                "bucket": bucket,
                "access_key": self._s3.access_key,
                "secret_key": self._s3.secret_key,
            },
        }


@dataclass(frozen=True)
class RunningDaemon:
    """The daemon's process, and ways to have it publish."""

    process: DaemonProcess
    database: ScratchDatabase
    spool: Path

    @property
    def pid(self) -> int:
        return self.process.process.pid

    def full(self) -> Export:
        """Have the whole table exported, as if nothing of it were published."""
        return self._published(lambda: request_full(self.database))

    def after(self, statement: str) -> Export:
        """Have it published after a statement of CKAN's write role, in which {t} is the table."""
        with self.database.connect(WRITE_ROLE) as writer:
            text = statement.replace("{t}", f'"{RESOURCE_ID}"').encode()
            return self._published(lambda: writer.execute(text))

    def _published(self, commit: Callable[[], object]) -> Export:
        _pause.wait(_APART_SECONDS)
        before = len(self.process.all("published"))
        commit()
        started = time.perf_counter()
        event = self.process.wait_for("published", before + 1, timeout_seconds=_EXPORT_SECONDS)
        return Export(time.perf_counter() - started, event)


def request_full(database: ScratchDatabase) -> None:
    """Forget what is published of the table and say that all of it changed."""
    with database.connect() as admin, admin.transaction():
        admin.execute(
            "WITH gone AS (DELETE FROM datastore_dumper.dump_status WHERE resource_id = %s RETURNING storage_key) "
            "INSERT INTO datastore_dumper.garbage (key, delete_after) SELECT storage_key, clock_timestamp() FROM gone "
            "ON CONFLICT DO NOTHING",
            [RESOURCE_ID],
        )
        admin.execute(
            "SELECT datastore_dumper.record_change(to_regclass(quote_ident(%s)), '{-1}')",
            [RESOURCE_ID],
        )


def forget(database: ScratchDatabase) -> None:
    """What was published in a storage that is gone."""
    with database.connect() as admin, admin.transaction():
        admin.execute("DELETE FROM datastore_dumper.dump_status")
        admin.execute("DELETE FROM datastore_dumper.garbage")
        admin.execute("SELECT datastore_dumper.record_change(relid, '{-1}') FROM datastore_dumper.datastore_table")


@contextmanager
def open_rig(rows: int, runs: int, times: int, tables: int, say: Callable[[str], None]) -> Iterator[Rig]:
    """Start the server: as it comes, fsync and all."""
    with (
        tempfile.TemporaryDirectory(prefix="datastore-dumper-bench-") as directory,
        ExitStack() as stack,
        PrivatePostgres() as postgres,
    ):
        server = PostgresServer(postgres.dsn())
        server.create_roles(WRITE_ROLE, READ_ROLE, DUMPER_ROLE)
        yield Rig(rows, runs, times, tables, postgres, server, Path(directory), say, stack)
