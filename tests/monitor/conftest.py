"""A DataStore for the tests of the monitor."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from datastore_dumper.install import install
from tests.support.daemon import Dumper
from tests.support.datastore import create_table
from tests.support.installation import ROLES, handle
from tests.support.watching import Watched


@pytest.fixture
def writer(dumper: Dumper) -> Iterator[psycopg.Connection]:
    """A DataStore with our SQL installed and one table t, and a connection of CKAN's write role."""
    install(handle(dumper.database), ROLES)
    with dumper.database.connect("ckan_write") as connection:
        create_table(connection, "t", {"a": "text"})
        yield connection


@pytest.fixture
def watched() -> Watched:
    return Watched.somewhere()
