"""`lookup`: a file is fresh only if it shows the table as committed now."""

from __future__ import annotations

import pytest

from datastore_dumper.install import install
from tests.support.datastore import create_table
from tests.support.installation import ROLES, handle
from tests.support.postgres import ScratchDatabase


@pytest.fixture
def writer(database: ScratchDatabase, published):
    """A table t with one row, published by the daemon."""
    install(handle(database), ROLES)
    with database.connect("ckan_write") as connection:
        create_table(connection, "t", {"a": "text", "b": "text"})
        connection.execute("INSERT INTO t (a, b) VALUES ('x', 'y')")
        published()
        assert lookup(database) == (True, False)
        yield connection


def lookup(database: ScratchDatabase, resource_id: str = "t") -> tuple[bool, bool] | None:
    """(fresh, pending) as CKAN's read role sees it, or None."""
    with database.connect("ckan_read") as reader:
        row = reader.execute(
            "SELECT fresh, pending_since IS NOT NULL FROM datastore_dumper.lookup(%s, 'csv')", [resource_id]
        ).fetchone()
        return None if row is None else (bool(row[0]), bool(row[1]))


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO t (a) VALUES ('z')",
        "UPDATE t SET a = 'z'",
        "DELETE FROM t",
        "TRUNCATE t",
        "ALTER TABLE t ADD COLUMN c text",
        "ALTER TABLE t DROP COLUMN b",
        "ALTER TABLE t RENAME COLUMN a TO c",
        "ALTER TABLE t ALTER COLUMN a TYPE varchar",
        "COMMENT ON COLUMN t.a IS 'other'",
    ],
)
@pytest.mark.parametrize("event_triggers", [True, False])
def test_stale_as_soon_as_it_commits(writer, database: ScratchDatabase, statement: str, event_triggers: bool) -> None:
    if not event_triggers:
        with database.connect() as admin:
            admin.execute("DROP EVENT TRIGGER datastore_dumper_ddl")
    with writer.transaction():
        writer.execute(statement)
        assert lookup_elsewhere(database, statement) in {(True, False), "locked"}
    assert lookup(database) is not None
    assert lookup(database)[0] is False


def lookup_elsewhere(database: ScratchDatabase, statement: str):
    """What others see before the commit: the file, which still shows what is committed. It never waits for the writer."""
    return lookup(database)


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE t DISABLE TRIGGER datastore_dumper_update",
        "ALTER TABLE t DISABLE TRIGGER USER",
        "ALTER TABLE t ENABLE TRIGGER datastore_dumper_update",
        "DROP TRIGGER datastore_dumper_truncate ON t",
        "COMMENT ON TRIGGER datastore_dumper_insert ON t IS 'tampered with'",
        "CREATE OR REPLACE TRIGGER datastore_dumper_insert AFTER DELETE ON t FOR EACH STATEMENT "
        "EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    ],
)
def test_not_trusted_without_all_four_triggers(writer, database: ScratchDatabase, statement: str) -> None:
    with database.connect() as admin:
        admin.execute("DROP EVENT TRIGGER datastore_dumper_ddl")
        admin.execute(statement)
    assert lookup(database) == (False, False)


def test_a_trigger_that_was_off_for_a_moment_shows(writer, database: ScratchDatabase) -> None:
    """A change made meanwhile was not recorded, and all four triggers look well again."""
    with database.connect() as admin:
        admin.execute("DROP EVENT TRIGGER datastore_dumper_ddl")
        admin.execute("ALTER TABLE t DISABLE TRIGGER datastore_dumper_update")
        admin.execute("UPDATE t SET a = 'unseen'")
        admin.execute("ALTER TABLE t ENABLE ALWAYS TRIGGER datastore_dumper_update")
    assert lookup(database) == (False, False)


def test_a_rewritten_table_is_stale(writer, database: ScratchDatabase) -> None:
    with database.connect() as admin:
        admin.execute("VACUUM FULL t")
    assert lookup(database) == (False, False)


def test_dropped_and_recreated_under_the_same_name(writer, database: ScratchDatabase) -> None:
    writer.execute("DROP TABLE t")
    assert lookup(database) is None
    create_table(writer, "t", {"a": "text", "b": "text"})
    assert lookup(database) == (False, True)


def test_renamed(writer, database: ScratchDatabase) -> None:
    writer.execute("ALTER TABLE t RENAME TO u")
    assert lookup(database) is None
    assert lookup(database, "u") is None


def test_unknown_and_hostile_ids(writer, database: ScratchDatabase) -> None:
    for resource_id in ("", "nope", "t'--", 't"', "%", "_t", "pg_class", "x" * 1000):
        assert lookup(database, resource_id) is None


def test_fresh_again_after_the_next_export(writer, database: ScratchDatabase, published) -> None:
    writer.execute("INSERT INTO t (a) VALUES ('z')")
    assert lookup(database) == (False, True)
    published()
    assert lookup(database) == (True, False)
