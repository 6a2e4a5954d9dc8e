"""A real PgBouncer before the tests' Postgres, pooling by transaction. From the system: Debian's package `pgbouncer`."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from psycopg import conninfo

from datastore_dumper.demo.child import start_child, stop_child, unprivileged_account
from datastore_dumper.demo.private_directory import temporary_base
from tests.support.ports import free_port
from tests.support.postgres import PostgresServer
from tests.support.waiting import eventually

POOL_SIZE = 12


@dataclass(frozen=True)
class PgBouncer:
    """One that runs. `dsn` leads a connection string through it."""

    port: int
    log: Path

    def dsn(self, dsn: str) -> str:
        return conninfo.make_conninfo(dsn, host="127.0.0.1", hostaddr="", port=self.port, sslmode="disable")


@pytest.fixture
def pgbouncer(postgres_server: PostgresServer) -> Iterator[PgBouncer]:
    """Before the server that most tests use."""
    with pgbouncer_to(postgres_server) as started:
        yield started


@contextmanager
def pgbouncer_to(server: PostgresServer) -> Iterator[PgBouncer]:
    """For every database and role of the server."""
    found = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        # Continuous integration installs it (.ci/run).
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("there is no pgbouncer: install the package")
    with _running(found, server) as started:
        yield started


@contextmanager
def _running(program: str, server: PostgresServer) -> Iterator[PgBouncer]:
    account = unprivileged_account()
    directory = Path(tempfile.mkdtemp(prefix="pgbouncer-", dir=temporary_base(account)))
    try:
        port = free_port()
        target = conninfo.conninfo_to_dict(server.superuser_dsn)
        users = directory / "users.txt"
        users.write_text("".join(f'"{name}" "{password}"\n' for name, password in server.passwords.items()))
        config = directory / "pgbouncer.ini"
        config.write_text(
            f"[databases]\n* = host={target['host']} port={target.get('port') or 5432}\n"
            "[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
            f"auth_type = scram-sha-256\nauth_file = {users}\n"
            f"pool_mode = transaction\ndefault_pool_size = {POOL_SIZE}\nquery_wait_timeout = 20\n"
        )
        if account:
            for path in (directory, users, config):
                shutil.chown(path, account.uid, account.gid)
        log = directory / "pgbouncer.log"
        with log.open("wb") as output:
            process = start_child([program, config], account=account, cwd=directory, output=output)
        bouncer = PgBouncer(port, log)
        try:
            eventually(lambda: process.poll() is not None or _answers(port))
            assert process.poll() is None, log.read_text()
            yield bouncer
        finally:
            stop_child(process, ((signal.SIGINT, 10.0),))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            return True
    except OSError:
        return False
