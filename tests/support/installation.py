"""What tests of the SQL side have in common: the roles that are granted rights, a second database, a psql."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from datastore_dumper.database import Database
from datastore_dumper.demo.postgres_binaries import find_binaries
from datastore_dumper.errors import UnavailableError
from datastore_dumper.install import Roles
from tests.support.datastore import DUMPER_ROLE, READ_ROLE, WRITE_ROLE
from tests.support.postgres import PostgresServer, ScratchDatabase

ROLES = Roles(daemon=DUMPER_ROLE, ckan_write=WRITE_ROLE, ckan_read=READ_ROLE)


def handle(database: ScratchDatabase, user: str | None = None) -> Database:
    """The database as the product connects to it: as the superuser, or as `user`."""
    return Database(database.dsn if user is None else database.dsn_for(user))


@pytest.fixture
def other_database(postgres_server: PostgresServer, datastore_template: str) -> Iterator[ScratchDatabase]:
    """A second empty DataStore."""
    with postgres_server.new_database("other", template=datastore_template) as name:
        yield ScratchDatabase(postgres_server, name)


@pytest.fixture(scope="session")
def psql() -> str:
    """Path of a psql."""
    try:
        beside_the_server = find_binaries().bin_directory / "psql"
    except UnavailableError:
        beside_the_server = None
    if beside_the_server is not None and beside_the_server.exists():
        return str(beside_the_server)
    found = shutil.which("psql")
    assert found is not None, "no psql: install the client programs of PostgreSQL"
    return found
