"""`seconds_behind`: how long a file has not shown its table, or NULL where time is not all that may be amiss."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from datastore_dumper.install import install
from tests.support.datastore import create_table
from tests.support.installation import ROLES, handle
from tests.support.postgres import Connection, ScratchDatabase


@pytest.fixture
def writer(database: ScratchDatabase, published: Callable[[], None]) -> Iterator[Connection]:
    """A table t with one row, published by the daemon."""
    install(handle(database), ROLES)
    with database.connect("ckan_write") as connection:
        create_table(connection, "t", {"a": "text"})
        connection.execute("INSERT INTO t (a) VALUES ('x')")
        published()
        yield connection


def behind(database: ScratchDatabase, resource_id: str = "t", format: str = "csv") -> float | None:
    """As CKAN's read role sees it."""
    with database.connect("ckan_read") as reader:
        (seconds,) = reader.execute(
            "SELECT datastore_dumper.seconds_behind(%s, %s)", [resource_id, format]
        ).fetchone() or (None,)
        return seconds


def test_nothing_to_say_of_a_fresh_file_or_of_none(writer: Connection, database: ScratchDatabase) -> None:
    assert behind(database) is None
    writer.execute("INSERT INTO t (a) VALUES ('y')")
    assert behind(database) is not None
    assert behind(database, format="parquet") is None
    assert behind(database, "nothing") is None


@pytest.mark.parametrize(
    "amiss",
    [
        "UPDATE datastore_dumper.installation SET conflict = 'another database publishes there'",
        "UPDATE datastore_dumper.dump_status SET lsn = 'FFFFFFFF/0'",
    ],
    ids=["another storage", "restored"],
)
def test_what_is_not_of_this_database_has_no_age(writer: Connection, database: ScratchDatabase, amiss: str) -> None:
    writer.execute("INSERT INTO t (a) VALUES ('y')")
    assert behind(database) is not None
    with database.connect() as admin:
        admin.execute(amiss.encode())
    assert behind(database) is None


@pytest.mark.parametrize(
    "statement", ["INSERT INTO t (a) VALUES ('y')", "UPDATE t SET a = 'y'", "DELETE FROM t", "TRUNCATE t"]
)
def test_counted_from_the_oldest_change_that_the_file_lacks(
    writer: Connection, database: ScratchDatabase, published: Callable[[], None], statement: str
) -> None:
    with database.connect() as admin:
        writer.execute("INSERT INTO t (a) VALUES ('first')")
        admin.execute("UPDATE datastore_dumper.change SET changed_at = changed_at - interval '100 seconds'")
        writer.execute(statement)
        seconds = behind(database)
        assert seconds is not None
        assert 100 <= seconds < 200
    published()
    assert behind(database) is None


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE t ADD COLUMN c text",
        "ALTER TABLE t RENAME COLUMN a TO c",
        "COMMENT ON COLUMN t.a IS 'other'",
        "ALTER TABLE t DISABLE TRIGGER datastore_dumper_update",
        "ALTER TABLE t DISABLE TRIGGER USER",
        "DROP TABLE t",
    ],
)
def test_unknown_where_more_than_rows_may_have_changed(
    writer: Connection, database: ScratchDatabase, statement: str
) -> None:
    writer.execute("INSERT INTO t (a) VALUES ('y')")
    writer.execute(statement)
    assert behind(database) is None


def test_another_table_under_the_name(writer: Connection, database: ScratchDatabase) -> None:
    writer.execute("DROP TABLE t")
    create_table(writer, "t", {"a": "text"})
    writer.execute("INSERT INTO t (a) VALUES ('y')")
    assert behind(database) is None
