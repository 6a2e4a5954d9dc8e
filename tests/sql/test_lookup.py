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
        # Others see the file, which still shows what is committed. They never wait for the writer.
        assert lookup(database) == (True, False)
    assert lookup(database) is not None
    assert lookup(database)[0] is False


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


@pytest.mark.parametrize(
    ("statement", "unseen"),
    [
        ("CREATE TABLE child () INHERITS (t)", "INSERT INTO child (a) VALUES ('z')"),
        ("CREATE TABLE parent (LIKE t); ALTER TABLE t INHERIT parent", "UPDATE parent SET a = 'z'"),
        (
            "CREATE TABLE parent (LIKE t) PARTITION BY RANGE (_id);"
            "ALTER TABLE parent ATTACH PARTITION t FOR VALUES FROM (1) TO (10)",
            "UPDATE parent SET a = 'z'",
        ),
        ("ALTER TABLE t SET UNLOGGED", "SELECT"),
        ("ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON t TO ckan_read USING (true)", "SELECT"),
        ("ALTER TABLE t DROP CONSTRAINT t_pkey, ALTER _id DROP NOT NULL", "SELECT"),
    ],
)
def test_no_file_where_the_triggers_do_not_see_every_change(
    writer, database: ScratchDatabase, published, statement: str, unseen: str
) -> None:
    with database.connect() as admin:
        admin.execute("DROP EVENT TRIGGER datastore_dumper_ddl")
    writer.execute(statement)
    assert lookup(database) is None
    published()
    writer.execute(unseen)
    assert lookup(database) is None


@pytest.mark.parametrize(
    ("column", "statement"),
    [
        ("c mood DEFAULT 'good'", "ALTER TYPE mood RENAME VALUE 'good' TO 'fine'"),
        ("c mood[] DEFAULT '{good}'", "ALTER TYPE mood RENAME VALUE 'good' TO 'fine'"),
        ("c happy DEFAULT 'good'", "ALTER TYPE mood RENAME VALUE 'good' TO 'fine'"),
        ("c int GENERATED ALWAYS AS (length(a)) VIRTUAL", "ALTER TABLE t ALTER c SET EXPRESSION AS (length(b) + 1)"),
    ],
)
def test_values_that_change_without_a_row_being_written(
    writer, database: ScratchDatabase, published, column: str, statement: str
) -> None:
    with database.connect() as admin:
        admin.execute("DROP EVENT TRIGGER datastore_dumper_ddl")
    if "VIRTUAL" in column and writer.info.server_version < 180000:
        pytest.skip("virtual generated columns came with Postgres 18")
    writer.execute("CREATE TYPE mood AS ENUM ('good', 'bad'); CREATE DOMAIN happy AS mood")
    writer.execute(f"ALTER TABLE t ADD COLUMN {column}")
    published()
    assert lookup(database) == (True, False)
    writer.execute(statement)
    assert lookup(database) == (False, False)


def test_fresh_whatever_the_readers_session_is_set_to(writer, database: ScratchDatabase) -> None:
    with database.connect("ckan_read") as reader:
        reader.execute("SET quote_all_identifiers = on")
        fresh = reader.execute("SELECT fresh FROM datastore_dumper.lookup('t', 'csv')").fetchone()
    assert fresh == (True,)


def test_no_file_of_a_table_that_a_subscription_writes_to(writer, database: ScratchDatabase) -> None:
    """Its worker fires no statement triggers (PostgreSQL: "Logical Replication", Architecture)."""
    with database.connect() as admin:
        admin.execute(
            "CREATE SUBSCRIPTION s CONNECTION 'host=127.0.0.1 port=1' PUBLICATION p WITH (connect = false, slot_name = none)"
        )
        try:
            admin.execute("SET allow_system_table_mods = on")
            # As ALTER SUBSCRIPTION .. REFRESH PUBLICATION notes a table, for which the publisher must be there.
            admin.execute(
                "INSERT INTO pg_subscription_rel (srsubid, srrelid, srsubstate) "
                "SELECT oid, 't'::regclass, 'r' FROM pg_subscription WHERE subname = 's'"
            )
            assert lookup(database) is None
        finally:
            admin.execute("DROP SUBSCRIPTION s")
