"""`failure`: why a format cannot be had, as long as the table is as it was when that was found."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg.rows import TupleRow

from datastore_dumper.install import install
from tests.support.datastore import create_table
from tests.support.installation import ROLES, handle
from tests.support.postgres import ScratchDatabase

REASON = 'column "p" is of type point'


@pytest.fixture
def writer(database: ScratchDatabase) -> Iterator[psycopg.Connection[TupleRow]]:
    """A table t without pending changes that cannot be had as parquet."""
    install(handle(database), ROLES)
    with database.connect() as admin, database.connect("ckan_write") as connection:
        create_table(connection, "t", {"a": "text", "p": "point"})
        admin.execute("SELECT datastore_dumper.attach('t'::regclass)")
        admin.execute("DELETE FROM datastore_dumper.change")
        admin.execute(
            "INSERT INTO datastore_dumper.format_failure "
            "(resource_id, format, relid, signature, filenode, compat, error) "
            "SELECT 't', 'parquet', relid, datastore_dumper.signature(relid), pg_relation_filenode(relid), '2.12', %s "
            "FROM datastore_dumper.datastore_table WHERE resource_id = 't'",
            [REASON],
        )
        assert failure(database) == REASON
        yield connection


def failure(database: ScratchDatabase, resource_id: str = "t", format: str = "parquet") -> str | None:
    """As CKAN's read role is told."""
    with database.connect("ckan_read") as reader:
        row = reader.execute("SELECT datastore_dumper.failure(%s, %s)", [resource_id, format]).fetchone()
        assert row is not None
        return None if row[0] is None else str(row[0])


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO t (a) VALUES ('z')",
        "TRUNCATE t",
        "ALTER TABLE t DROP COLUMN p",
        "COMMENT ON COLUMN t.p IS 'other'",
        "ALTER TABLE t RENAME TO u",
        "DROP TABLE t",
    ],
)
@pytest.mark.parametrize("event_triggers", [True, False])
def test_a_change_may_have_mended_it(
    writer: psycopg.Connection[TupleRow], database: ScratchDatabase, statement: str, event_triggers: bool
) -> None:
    if not event_triggers:
        with database.connect() as admin:
            admin.execute("DROP EVENT TRIGGER datastore_dumper_ddl")
    writer.execute(statement)
    assert failure(database) is None


def test_others_are_not_concerned(writer: psycopg.Connection[TupleRow], database: ScratchDatabase) -> None:
    assert failure(database, format="csv.gz") is None
    assert failure(database, "'; DROP TABLE t") is None
