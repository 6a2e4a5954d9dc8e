"""A Postgres for tests: fixtures `postgres_server` (one for the session) and `database` (a new DataStore for each test).

Where the server comes from, in this order: one that is already there (`TEST_POSTGRES_DSN`, a superuser's connection
string over TCP), the programs in a wheel or on the system, a container. `TEST_POSTGRES_MAJOR` asks for another major version
than 18.
"""

from __future__ import annotations

import itertools
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import quote

import psycopg
import pytest
from psycopg import conninfo, sql
from psycopg.rows import TupleRow

from datastore_dumper.demo.postgres import PrivatePostgres
from datastore_dumper.demo.postgres_binaries import find_binaries
from datastore_dumper.errors import UnavailableError
from tests.support.datastore import DUMPER_ROLE, READ_ROLE, WRITE_ROLE, prepare_datastore

Connection = psycopg.Connection[TupleRow]

_IMAGES = {14: "postgres:14.24", 16: "postgres:16.14", 18: "postgres:18.6"}
_names = itertools.count(1)


@dataclass(frozen=True)
class PostgresServer:
    """A server where we are superuser, with CKAN's roles and the daemon's, which get new passwords for the session."""

    superuser_dsn: str = field(repr=False)
    passwords: dict[str, str] = field(default_factory=dict, repr=False)

    def dsn(self, dbname: str = "postgres", user: str | None = None) -> str:
        """Connection string for a role of ours, or for the superuser."""
        if user is None:
            return conninfo.make_conninfo(self.superuser_dsn, dbname=dbname)
        return conninfo.make_conninfo(self.superuser_dsn, dbname=dbname, user=user, password=self.passwords[user])

    def url(self, dbname: str, user: str) -> str:
        """The same as a URL as SQLAlchemy and CKAN want it."""
        parts = conninfo.conninfo_to_dict(self.superuser_dsn)
        password = quote(self.passwords[user], safe="")
        return f"postgresql://{user}:{password}@{parts['host']}:{parts.get('port') or 5432}/{dbname}"

    def connect(self, dbname: str = "postgres", user: str | None = None) -> Connection:
        """A new connection in autocommit mode."""
        return psycopg.connect(self.dsn(dbname, user), autocommit=True)

    def create_roles(self, *roles: str) -> None:
        with self.connect() as connection:
            for role in roles:
                known = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone()
                self.passwords[role] = secrets.token_urlsafe(16)
                connection.execute(
                    sql.SQL("{} ROLE {} LOGIN PASSWORD {}").format(
                        sql.SQL("ALTER" if known else "CREATE"), sql.Identifier(role), sql.Literal(self.passwords[role])
                    )
                )

    def create_database(self, purpose: str, *, template: str = "template0", owner: str | None = None) -> str:
        """Make a database and return its name, which no other run on this server has."""
        name = f"{purpose}_{os.getpid()}_{next(_names)}"
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} ENCODING 'UTF8'").format(
            sql.Identifier(name), sql.Identifier(template)
        )
        if owner:
            statement += sql.SQL(" OWNER {}").format(sql.Identifier(owner))
        with self.connect() as connection:
            connection.execute(statement)
        return name

    def drop_database(self, name: str) -> None:
        """Drop it, whoever is connected."""
        with self.connect() as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    @contextmanager
    def new_database(self, purpose: str, *, template: str = "template0") -> Iterator[str]:
        """A database for the time of the block."""
        name = self.create_database(purpose, template=template)
        try:
            yield name
        finally:
            self.drop_database(name)


@dataclass(frozen=True)
class ScratchDatabase:
    """A DataStore of its own for one test."""

    server: PostgresServer
    name: str

    @property
    def dsn(self) -> str:
        """Connection string of the superuser."""
        return self.server.dsn(self.name)

    def dsn_for(self, user: str) -> str:
        """Connection string of `ckan_write`, `ckan_read` or `dumper`."""
        return self.server.dsn(self.name, user)

    def connect(self, user: str | None = None) -> Connection:
        """A new connection in autocommit mode, the superuser's unless said otherwise."""
        return self.server.connect(self.name, user)


@contextmanager
def running_server() -> Iterator[PostgresServer]:
    """A running server with CKAN's roles and the daemon's."""
    with _server() as superuser_dsn:
        server = PostgresServer(superuser_dsn)
        server.create_roles(WRITE_ROLE, READ_ROLE, DUMPER_ROLE)
        yield server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The server of the session."""
    with running_server() as server:
        yield server


@pytest.fixture(scope="session")
def datastore_template(postgres_server: PostgresServer) -> Iterator[str]:
    """Name of a database to copy, which is an empty DataStore."""
    with postgres_server.new_database("datastore_template") as name:
        with postgres_server.connect(name) as connection:
            prepare_datastore(connection)
        yield name


@pytest.fixture
def database(postgres_server: PostgresServer, datastore_template: str) -> Iterator[ScratchDatabase]:
    """An empty DataStore that goes with the test."""
    with postgres_server.new_database("test", template=datastore_template) as name:
        yield ScratchDatabase(postgres_server, name)


@contextmanager
def _server() -> Iterator[str]:
    given = os.environ.get("TEST_POSTGRES_DSN")
    if given:
        yield given
        return
    major = int(os.environ.get("TEST_POSTGRES_MAJOR", "18"))
    try:
        binaries = find_binaries(major)
    except UnavailableError as missing:
        with _container(major, missing) as dsn:
            yield dsn
        return
    with PrivatePostgres(binaries=binaries, tcp=True, fsync=False, settings={"max_connections": "200"}) as server:
        yield server.tcp_dsn()


@contextmanager
def _container(major: int, missing: UnavailableError) -> Iterator[str]:
    from docker.errors import DockerException  # type: ignore[import-untyped]
    from testcontainers.community.postgres import PostgresContainer

    try:
        container = PostgresContainer(_IMAGES[major], driver=None).start()
    except (DockerException, KeyError) as error:
        pytest.fail(f"{missing}\nNor is there a container of it: {error}", pytrace=False)
    try:
        yield container.get_connection_url()
    finally:
        container.stop()
