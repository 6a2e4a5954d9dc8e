"""A Postgres server of our own: made in a private directory, reached over a socket in it, gone when we are.

For the demo and the tests. Where the programs come from is `postgres_binaries`; the wheels' own wrappers are not used,
because as root they add system users and open every directory above the data to everybody.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import psycopg
from psycopg import conninfo
from typing_extensions import Self

from datastore_dumper.demo.child import start_child, stop_child, unprivileged_account
from datastore_dumper.demo.postgres_binaries import PostgresBinaries, find_binaries
from datastore_dumper.demo.private_directory import PrivateDirectory
from datastore_dumper.errors import ConfigError, DumperError, UnavailableError

_PREFIX = "datastore-dumper-postgres-"
# A socket's path has at most 107 bytes (unix(7), sun_path) and ends in /.s.PGSQL.<port> (PostgreSQL: unix_socket_directories).
_SOCKET_DIRECTORY_BYTES = 107 - len("/.s.PGSQL.65535")
_LOG_LINES_SHOWN = 12
_STOP_FAST = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0))  # PostgreSQL: Shutting Down the Server
_TCP_ATTEMPTS = 5


class PrivatePostgres:
    """A server for this process alone. As root it runs as `nobody`: Postgres refuses root.

    `nobody` rather than a user namespace, because containers and kernels that forbid those are common, and a root that
    may not change its user is rare. Programs that `nobody` cannot reach are copied into the private directory.

    `directory` keeps the data across runs; without it they live in a temporary directory that goes with the server.
    Over the socket every role may log in, and only this user (and, as root, `nobody`) can reach it. With `tcp` the server
    also listens on a free port of 127.0.0.1, where a password is asked for (SCRAM). `settings` are server parameters.
    """

    def __init__(
        self,
        *,
        binaries: PostgresBinaries | None = None,
        directory: Path | None = None,
        tcp: bool = False,
        fsync: bool = True,
        settings: Mapping[str, str] | None = None,
        superuser: str = "postgres",
        start_timeout_seconds: float = 60.0,
    ) -> None:
        self.superuser = superuser
        self.port = 5432
        self.password = ""
        self._wanted_binaries = binaries
        self._wanted_directory = directory
        self._tcp = tcp
        self._fsync = fsync
        self._settings = dict(settings or {})
        self._start_timeout_seconds = start_timeout_seconds
        self._account = unprivileged_account()
        self._private: PrivateDirectory | None = None
        self._short: PrivateDirectory | None = None
        self._binaries: PostgresBinaries | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def directory(self) -> Path:
        """All that belongs to this server. Raises `DumperError` while it is not started; so do the others."""
        if self._private is None:
            raise DumperError("the private Postgres is not started")
        return self._private.path

    @property
    def log_file(self) -> Path:
        return self.directory / "postgres.log"

    @property
    def socket_directory(self) -> Path:
        return (self._short.path if self._short else self.directory) / "socket"

    @property
    def binaries(self) -> PostgresBinaries:
        if self._binaries is None:
            raise DumperError("the private Postgres is not started")
        return self._binaries

    @property
    def pid(self) -> int:
        """Process id of the postmaster."""
        if self._process is None:
            raise DumperError("the private Postgres is not started")
        return self._process.pid

    def dsn(self, dbname: str = "postgres", user: str | None = None) -> str:
        """libpq connection string over the socket; no password is needed. `user` defaults to the superuser."""
        return conninfo.make_conninfo(
            host=str(self.socket_directory), port=self.port, dbname=dbname, user=user or self.superuser
        )

    def tcp_dsn(self, dbname: str = "postgres", user: str | None = None, password: str | None = None) -> str:
        """libpq connection string over TCP. It holds a password: the superuser's, unless another is given."""
        if not self._tcp:
            raise DumperError("this private Postgres does not listen on TCP")
        return conninfo.make_conninfo(
            host="127.0.0.1",
            port=self.port,
            dbname=dbname,
            user=user or self.superuser,
            password=self.password if password is None else password,
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Make the data directory if there is none, start the server and return when it accepts connections.

        Raises `UnavailableError` with the last lines of its log when it does not, `ConfigError` when the directory or a
        setting will not do.
        """
        if self._private is not None:
            raise DumperError("the private Postgres is started already")
        found = self._wanted_binaries or find_binaries()
        if self._wanted_directory is None:
            self._private = PrivateDirectory.make(_PREFIX, self._account)
        else:
            self._private = PrivateDirectory.at(self._wanted_directory, self._account)
        try:
            self._binaries = found.for_account(self._account, self.directory)
            if len(os.fsencode(self.directory / "socket")) > _SOCKET_DIRECTORY_BYTES:
                self._short = PrivateDirectory.make("datastore-dumper-socket-", self._account, Path("/tmp"))  # noqa: S108
            self._make_cluster()
            self._own_directory(self.socket_directory)
            # We hold the lock that every process of a server of ours inherits, so whatever this file says is over.
            (self.directory / "data" / "postmaster.pid").unlink(missing_ok=True)
            self._start_server()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Disconnect everybody, shut down, and remove the directory if it is temporary. Does nothing if not started."""
        if self._process is not None:
            stop_child(self._process, _STOP_FAST)
        self._process = None
        for private in (self._short, self._private):
            if private is not None:
                private.close()
        self._short = self._private = None

    def _make_cluster(self) -> None:
        data = self.directory / "data"
        finished = self.directory / "initialised"  # written last: initdb may have been killed
        password = self.directory / "password"
        if finished.exists():
            version = finished.read_text().strip()
            if version != str(self.binaries.major):
                raise ConfigError(
                    f"the data in {self.directory} are of Postgres {version}, the programs of {self.binaries.version}",
                    hint="Name another directory.",
                )
            self.password = password.read_text()
            return
        if data.exists():
            shutil.rmtree(data)
        self._own_directory(data)
        self.password = secrets.token_urlsafe(24)
        self._write(password, self.password)
        argv: list[str | Path] = [
            self.binaries.bin_directory / "initdb",
            f"--pgdata={data}",
            f"--username={self.superuser}",
            f"--pwfile={password}",
            "--auth-local=trust",
            "--auth-host=scram-sha-256",
            "--encoding=UTF8",
            "--no-locale",
            "--no-instructions",
            *([] if self._fsync else ["--no-sync"]),
        ]
        with self.log_file.open("ab") as log:
            initdb = start_child(
                argv,
                account=self._account,
                env=self._environment(),
                cwd=self.directory,
                output=log,
                pass_fds=self._lock_fds(),
            )
            try:
                status = initdb.wait(self._start_timeout_seconds)
            except subprocess.TimeoutExpired:
                stop_child(initdb, ((signal.SIGTERM, 5.0),))
                raise self._failure(f"initdb did not finish within {self._start_timeout_seconds:g} s") from None
        if status != 0:
            raise self._failure("initdb failed")
        self._write(finished, f"{self.binaries.major}\n")

    def _start_server(self) -> None:
        deadline = time.monotonic() + self._start_timeout_seconds
        for attempt in range(1, _TCP_ATTEMPTS + 1):
            if self._tcp:
                self.port = _free_port()
            self._write_settings()
            log_starts_at = self.log_file.stat().st_size
            with self.log_file.open("ab") as log:
                self._process = start_child(
                    [
                        self.binaries.bin_directory / "postgres",
                        f"--data_directory={self.directory / 'data'}",
                        f"--config_file={self.directory / 'postgresql.conf'}",
                        f"--hba_file={self.directory / 'data' / 'pg_hba.conf'}",
                        f"--ident_file={self.directory / 'data' / 'pg_ident.conf'}",
                    ],
                    account=self._account,
                    env=self._environment(),
                    cwd=self.directory,
                    output=log,
                    death_signal=signal.SIGINT,
                    pass_fds=self._lock_fds(),
                )
            if self._accepts_connections(deadline):
                return
            said = self.log_file.read_bytes()[log_starts_at:]
            # Somebody else may have taken the port since we looked.
            if not (self._tcp and b"Address already in use" in said and attempt < _TCP_ATTEMPTS):
                raise self._failure("the private Postgres ended while it started")

    def _accepts_connections(self, deadline: float) -> bool:
        """True as soon as it does, False when the server ends instead."""
        assert self._process is not None
        while True:
            try:
                psycopg.connect(self.dsn(), connect_timeout=2).close()
            except psycopg.OperationalError:
                pass
            else:
                return True
            if time.monotonic() > deadline:
                raise self._failure(f"the private Postgres was not ready within {self._start_timeout_seconds:g} s")
            try:
                self._process.wait(0.02)
            except subprocess.TimeoutExpired:
                continue
            return False

    def _write_settings(self) -> None:
        settings = {
            "listen_addresses": "127.0.0.1" if self._tcp else "",
            "port": str(self.port),
            "unix_socket_directories": str(self.socket_directory),
            "fsync": "on" if self._fsync else "off",
            "full_page_writes": "on" if self._fsync else "off",
            "logging_collector": "off",
            "log_destination": "stderr",
            **self._settings,
        }
        lines = [f"include {_quoted(str(self.directory / 'data' / 'postgresql.conf'))}"]
        for name, value in settings.items():
            if not re.fullmatch(r"\w+(\.\w+)?", name):
                raise ConfigError(f"{name!r} is not the name of a Postgres setting")
            lines.append(f"{name} = {_quoted(value)}")
        self._write(self.directory / "postgresql.conf", "\n".join(lines) + "\n")

    def _failure(self, what: str) -> UnavailableError:
        lines = self.log_file.read_text(errors="replace").splitlines() if self.log_file.exists() else []
        said = "\n".join(lines[-_LOG_LINES_SHOWN:])
        kept = "" if self._private and self._private.temporary else f"The whole log: {self.log_file}"
        return UnavailableError(f"{what}; its log ends:\n{said}" if said else what, hint=kept)

    def _own_directory(self, path: Path) -> None:
        """A directory that the server may write to and nobody else may see."""
        path.mkdir(mode=0o700, exist_ok=True)
        if self._account:
            os.chown(path, self._account.uid, self._account.gid)

    def _write(self, path: Path, text: str) -> None:
        """A file that the server may read; it comes into being complete."""
        new = path.with_name(f".{path.name}")
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            if self._account:
                os.fchown(fd, 0, self._account.gid)
                os.fchmod(fd, 0o640)
            file.write(text)
        new.replace(path)

    def _lock_fds(self) -> tuple[int, ...]:
        return tuple(private.lock_fd for private in (self._private, self._short) if private is not None)

    @staticmethod
    def _environment() -> dict[str, str]:
        """Nothing of ours but the way to `sh`: PGDATA, PGOPTIONS or a locale would change the server."""
        return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _quoted(value: str) -> str:
    """A string as in postgresql.conf (PostgreSQL: Parameter Interaction via the Configuration File)."""
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"
