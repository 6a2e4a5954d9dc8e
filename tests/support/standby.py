"""A primary and a standby that streams from it: fixtures `primary_server`, `standby_server`, `replicated_database`.

Always servers of our own, also where the other tests use somebody else's: a standby is made of its primary's files.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from datastore_dumper.demo.child import start_child, unprivileged_account
from datastore_dumper.demo.postgres import PrivatePostgres
from datastore_dumper.demo.postgres_binaries import find_binaries
from datastore_dumper.demo.private_directory import temporary_base
from datastore_dumper.errors import UnavailableError
from tests.support.datastore import DUMPER_ROLE, READ_ROLE, WRITE_ROLE, prepare_datastore
from tests.support.postgres import Connection, PostgresServer, ScratchDatabase
from tests.support.waiting import eventually

_BASEBACKUP_SECONDS = 60
# The startup process gives in to readers for longer than a test lasts: who gives way in time is us.
_STANDBY_SETTINGS = {"max_standby_streaming_delay": "10min", "hot_standby_feedback": "off"}


class StandbyServer(PostgresServer):
    """The standby, with the roles and passwords of its primary."""

    def __init__(self, process: PrivatePostgres, primary: PostgresServer) -> None:
        super().__init__(process.tcp_dsn(), primary.passwords)
        object.__setattr__(self, "process", process)

    process: PrivatePostgres

    def caught_up(self, primary: Connection) -> None:
        """Wait until it shows what is committed on the primary now."""
        (position,) = primary.execute("SELECT pg_current_wal_flush_lsn()").fetchone() or (None,)
        with self.connect() as connection:
            eventually(
                lambda: (
                    connection.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", [position]).fetchone()
                    == (True,)
                )
            )


@contextmanager
def _running_primary() -> Iterator[PrivatePostgres]:
    try:
        binaries = find_binaries(int(os.environ.get("TEST_POSTGRES_MAJOR", "18")))
    except UnavailableError as missing:
        pytest.skip(missing.message)
    if not (binaries.bin_directory / "pg_basebackup").exists():
        pytest.skip(f"no pg_basebackup in {binaries.bin_directory}")
    with PrivatePostgres(binaries=binaries, tcp=True, fsync=False, settings={"wal_level": "replica"}) as process:
        yield process


@contextmanager
def _running_standby(primary: PrivatePostgres) -> Iterator[PrivatePostgres]:
    account = unprivileged_account()
    directory = Path(tempfile.mkdtemp(prefix="standby-", dir=temporary_base(account)))
    try:
        data = directory / "data"
        data.mkdir(mode=0o700)
        if account:
            directory.chmod(0o711)
            os.chown(data, account.uid, account.gid)
        with (directory / "postgres.log").open("wb") as log:
            copying = start_child(
                [
                    primary.binaries.bin_directory / "pg_basebackup",
                    f"--dbname={primary.dsn()}",
                    f"--pgdata={data}",
                    "--write-recovery-conf",
                    "--checkpoint=fast",
                    "--no-sync",
                ],
                account=account,
                env={"LC_ALL": "C"},
                cwd=directory,
                output=log,
            )
            try:
                status = copying.wait(_BASEBACKUP_SECONDS)
            except subprocess.TimeoutExpired:
                copying.kill()
                raise
        assert status == 0, (directory / "postgres.log").read_text()
        # What PrivatePostgres leaves in a directory of its own, so that it takes the data as they are.
        (directory / "lock").touch(mode=0o600)
        (directory / "password").write_text(primary.password)
        (directory / "initialised").write_text(f"{primary.binaries.major}\n")
        with PrivatePostgres(
            binaries=primary.binaries, directory=directory, tcp=True, fsync=False, settings=_STANDBY_SETTINGS
        ) as process:
            yield process
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
def primary_process() -> Iterator[PrivatePostgres]:
    """The primary's process, for making standbys of it."""
    with _running_primary() as process:
        yield process


@pytest.fixture(scope="module")
def primary_server(primary_process: PrivatePostgres) -> PostgresServer:
    """The primary, with CKAN's roles and the daemon's."""
    server = PostgresServer(primary_process.tcp_dsn())
    server.create_roles(WRITE_ROLE, READ_ROLE, DUMPER_ROLE)
    return server


@pytest.fixture
def standby_server(primary_process: PrivatePostgres, primary_server: PostgresServer) -> Iterator[StandbyServer]:
    """A new standby of the primary."""
    with _running_standby(primary_process) as process:
        yield StandbyServer(process, primary_server)


@pytest.fixture
def replicated_database(primary_server: PostgresServer) -> Iterator[ScratchDatabase]:
    """An empty DataStore on the primary."""
    with primary_server.new_database("replicated") as name:
        with primary_server.connect(name) as connection:
            prepare_datastore(connection)
        yield ScratchDatabase(primary_server, name)
