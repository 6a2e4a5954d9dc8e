"""Postgres goes down under a running daemon, and comes back: as it was, or as it was some time ago."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from datastore_dumper.demo.child import stop_child
from datastore_dumper.demo.postgres import PrivatePostgres
from datastore_dumper.demo.postgres_binaries import find_binaries
from datastore_dumper.errors import UnavailableError
from datastore_dumper.install import install
from tests.support.converged import left_in_database, not_fresh
from tests.support.daemon import DaemonProcess, Dumper, dumper_for
from tests.support.datastore import DUMPER_ROLE, READ_ROLE, WRITE_ROLE, create_table, prepare_datastore
from tests.support.installation import ROLES, handle
from tests.support.postgres import PostgresServer, ScratchDatabase
from tests.support.proxy import Proxy, proxy_to
from tests.support.waiting import eventually

FORMATS = ["csv", "csv-bom"]


@dataclass
class Mortal:
    """A Postgres of our own, and a daemon that reaches it through a proxy."""

    postgres: PrivatePostgres
    server: PostgresServer
    database: ScratchDatabase
    proxy: Proxy
    dumper: Dumper
    daemon: DaemonProcess

    @property
    def data(self) -> Path:
        return self.postgres.directory / "data"

    def restart(self, how: signal.Signals, meanwhile: Callable[[], object] = lambda: None) -> None:
        assert self.postgres._process is not None
        stop_child(self.postgres._process, ((how, 20.0),))
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        meanwhile()
        self.postgres._start_server()
        object.__setattr__(self.server, "superuser_dsn", self.postgres.tcp_dsn())
        self.proxy.lead_to("127.0.0.1", self.postgres.port)

    def write(self, text: str) -> None:
        with self.database.connect(WRITE_ROLE) as writer:
            writer.execute("INSERT INTO t (a) VALUES (%s)", [text])

    def converges(self) -> None:
        """Every file is fresh, and the table."""
        with self.database.connect() as admin:
            eventually(lambda: not_fresh(admin, FORMATS) == [])
            rows = admin.execute("SELECT _id, a FROM t ORDER BY _id").fetchall()
            assert self.dumper.file("t").decode() == "_id,a\r\n" + "".join(
                f"{number},{text}\n" for number, text in rows
            )
            eventually(lambda: left_in_database(admin) == {})


@contextmanager
def running(directory: Path) -> Iterator[Mortal]:
    try:
        binaries = find_binaries()
    except UnavailableError as missing:
        pytest.skip(missing.message)
    with PrivatePostgres(binaries=binaries, tcp=True, fsync=False) as postgres:
        server = PostgresServer(postgres.tcp_dsn())
        server.create_roles(WRITE_ROLE, READ_ROLE, DUMPER_ROLE)
        database = ScratchDatabase(server, server.create_database("mortal"))
        with database.connect() as admin:
            prepare_datastore(admin)
        install(handle(database), ROLES)
        with database.connect(WRITE_ROLE) as writer:
            create_table(writer, "t", {"a": "text"})
        dumper = dumper_for(database, directory)
        with proxy_to(server.superuser_dsn) as proxy:
            there = {"dsn": proxy.dsn(database.dsn_for(DUMPER_ROLE)), "connect_timeout_seconds": 2}
            with dumper.running(database=there, look={"reconcile_interval_seconds": 1}) as daemon:
                mortal = Mortal(postgres, server, database, proxy, dumper, daemon)
                mortal.write("first")
                daemon.wait_for("published", resource_id="t", rows=1)
                yield mortal


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["restarted", "crashed"])
def test_it_comes_back_as_it_was(tmp_path: Path, how: signal.Signals) -> None:
    with running(tmp_path) as mortal:
        mortal.write("second")
        mortal.restart(how)
        mortal.daemon.wait_for("listening", 2)
        mortal.write("third")
        mortal.converges()
        assert b"third" in mortal.dumper.file("t")


def test_it_comes_back_as_it_was_some_time_ago(tmp_path: Path) -> None:
    """Its files were set back to a copy of before: what was published since shows rows that never were."""
    with running(tmp_path) as mortal:
        copy = mortal.data.with_name("copy")
        mortal.restart(signal.SIGINT, lambda: shutil.copytree(mortal.data, copy))
        for path in (copy, *copy.rglob("*")):
            shutil.chown(path, mortal.data.stat().st_uid, mortal.data.stat().st_gid)
        mortal.daemon.wait_for("listening", 2)
        mortal.write("lost")
        mortal.daemon.wait_for("published", resource_id="t", rows=2)

        def set_back() -> None:
            shutil.rmtree(mortal.data)
            copy.rename(mortal.data)

        mortal.restart(signal.SIGINT, set_back)
        mortal.daemon.wait_for("listening", 3)
        mortal.converges()
        assert b"lost" not in mortal.dumper.file("t")
        mortal.write("of the new history")
        mortal.converges()
        assert b"of the new history" in mortal.dumper.file("t")
