"""`status`, `list` and `daemons`: what CKAN's pages are told, as its read role asks it."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from datastore_dumper.install import install
from tests.support.daemon import Dumper
from tests.support.datastore import create_table
from tests.support.installation import ROLES, handle
from tests.support.postgres import ScratchDatabase

TABLES = {"a": 1, "b": 20, "c": 300}


@pytest.fixture
def writer(database: ScratchDatabase, published):
    """Published tables a, b and c of 1, 20 and 300 rows."""
    install(handle(database), ROLES)
    with database.connect("ckan_write") as connection:
        for name, rows in TABLES.items():
            create_table(connection, name, {"n": "int4"})
            connection.execute(f"INSERT INTO {name} (n) SELECT generate_series(1, {rows})")
        published()
        yield connection


def ask(database: ScratchDatabase, question: str, *arguments: object) -> list[dict[str, Any]]:
    with database.connect("ckan_read") as reader, reader.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(question, arguments).fetchall()


def status(database: ScratchDatabase, resource_id: str) -> dict[str, Any] | None:
    rows = ask(database, "SELECT * FROM datastore_dumper.status(%s)", resource_id)
    return rows[0] if rows else None


def entries(
    database: ScratchDatabase,
    *,
    search: str | None = None,
    ids: list[str] | None = None,
    state: str | None = None,
    sort: str = "resource_id",
    descending: bool = False,
    most: int = 100,
    skipped: int = 0,
) -> list[dict[str, Any]]:
    return ask(
        database,
        "SELECT * FROM datastore_dumper.list(%s, %s, %s, %s, %s, %s, %s)",
        search,
        ids,
        state,
        sort,
        descending,
        most,
        skipped,
    )


def ids(found: list[dict[str, Any]]) -> list[str]:
    return [entry["resource_id"] for entry in found]


def test_a_published_resource(writer, database: ScratchDatabase) -> None:
    found = status(database, "b")
    assert found is not None
    files = found.pop("files")
    assert [file["format"] for file in files] == ["csv", "csv-bom"]
    assert {(file["rows"], file["fresh"], file["error"]) for file in files} == {(20, True, None)}
    assert files[1]["bytes"] == files[0]["bytes"] + 3
    assert {name: value for name, value in found.items() if value} == {"choice": "always"}


def test_a_changed_one(writer, database: ScratchDatabase) -> None:
    with writer.transaction():
        writer.execute("DELETE FROM b WHERE n = 1")
        writer.execute("DELETE FROM b WHERE n = 2")
    writer.execute("DELETE FROM b WHERE n = 3")
    found = status(database, "b")
    assert found is not None
    assert found["pending_changes"] == 2
    assert found["pending_since"] is not None
    assert [file["fresh"] for file in found["files"]] == [False, False]
    (entry,) = entries(database, search="b")
    assert (entry["state"], entry["pending_changes"]) == ("waiting", 2)
    assert entry["pending_since"] == found["pending_since"]


def test_the_export_under_way(writer, database: ScratchDatabase) -> None:
    lease = "UPDATE datastore_dumper.resource SET lease_owner = 'x', lease_until = clock_timestamp() + %s::interval, "
    lease += "exporting_since = now(), exported_rows = 5, expected_rows = 20 WHERE resource_id = 'b'"
    with database.connect() as admin:
        admin.execute(lease, ["1 hour"])
        found = status(database, "b")
        assert found is not None
        assert (found["exported_rows"], found["expected_rows"]) == (5, 20)
        (entry,) = entries(database, search="b")
        assert (entry["state"], entry["exported_rows"], entry["expected_rows"]) == ("exporting", 5, 20)
        admin.execute(lease, ["-1 second"])  # whoever had it is gone
    found = status(database, "b")
    assert found is not None
    assert found["exporting_since"] is None
    (entry,) = entries(database, search="b")
    assert (entry["state"], entry["exporting_since"], entry["exported_rows"]) == ("ready", None, None)


def test_failures(writer, dumper: Dumper, database: ScratchDatabase) -> None:
    create_table(writer, "odd", {"p": "point"})
    dumper.once(export={"formats": ["csv", "parquet"]})
    found = status(database, "odd")
    assert found is not None
    assert [(file["format"], file["fresh"]) for file in found["files"]] == [("csv", True), ("parquet", None)]
    assert "point" in found["files"][1]["error"]
    (entry,) = entries(database, search="odd")
    assert (entry["state"], entry["formats"], entry["failed_formats"]) == ("ready", ["csv"], ["parquet"])
    assert entry["last_error"].startswith("parquet: ")
    with database.connect() as admin:
        admin.execute(
            "UPDATE datastore_dumper.resource SET last_error = 'no room', attempts = 2 WHERE resource_id = 'a'"
        )
    found = status(database, "a")
    assert found is not None
    assert (found["last_error"], found["attempts"]) == ("no room", 2)
    (entry,) = entries(database, state="failing")
    assert (entry["resource_id"], entry["last_error"], entry["attempts"]) == ("a", "no room", 2)


def test_a_table_that_was_altered_where_nobody_noted_it(writer, database: ScratchDatabase) -> None:
    """The totals are of what is noted; the row itself never calls such a table ready."""
    with database.connect() as admin:
        admin.execute("DROP EVENT TRIGGER datastore_dumper_ddl")
    writer.execute("ALTER TABLE b RENAME COLUMN n TO m")
    found = status(database, "b")
    assert found is not None
    assert [file["fresh"] for file in found["files"]] == [False, False]
    (entry,) = entries(database, search="b")
    assert entry["state"] == "waiting"
    assert entry["totals"]["ready"] == 3
    with database.connect() as admin:
        admin.execute("VACUUM FULL c")
        admin.execute("ALTER TABLE a DISABLE TRIGGER datastore_dumper_insert")
    assert {entry["resource_id"]: entry["state"] for entry in entries(database)} == {
        "a": "waiting",
        "b": "waiting",
        "c": "waiting",
    }
    assert entries(database)[0]["totals"]["ready"] == 2  # another filenode shows at once


def test_pages_and_totals(writer, database: ScratchDatabase) -> None:
    writer.execute("DELETE FROM a")
    assert ids(entries(database)) == ["a", "b", "c"]
    assert ids(entries(database, sort="rows", descending=True)) == ["c", "b", "a"]
    assert ids(entries(database, sort="bytes", most=1, skipped=1)) == ["b"]
    assert ids(entries(database, sort="state")) == ["a", "b", "c"]
    assert ids(entries(database, sort="state", descending=True)) == ["b", "c", "a"]
    assert ids(entries(database, sort="pending_since", descending=True))[0] == "a"
    assert ids(entries(database, sort="pending_changes", descending=True))[0] == "a"
    assert ids(entries(database, sort="generated_at")) == ["a", "b", "c"]
    assert ids(entries(database, sort="'; DROP TABLE a; --")) == ["a", "b", "c"]
    assert ids(entries(database, state="waiting")) == ["a"]
    assert ids(entries(database, search="B")) == ["b"]
    assert ids(entries(database, search="B", ids=["c"], sort="rows")) == ["b", "c"]
    assert ids(entries(database, search="%")) == [None]
    totals = entries(database, search="b", most=1)[0]["totals"]
    bytes_in_all = sum(entry["bytes"] for entry in entries(database))
    assert totals == {
        "resources": 3,
        "ready": 2,
        "waiting": 1,
        "exporting": 0,
        "failing": 0,
        "unkept": 0,
        "files": 6,
        "bytes": bytes_in_all,
        "found": 1,
    }
    (beyond,) = entries(database, skipped=50)
    assert beyond["resource_id"] is None
    assert beyond["totals"]["found"] == 3


def test_requested_and_unknown(writer, database: ScratchDatabase) -> None:
    writer.execute("SELECT datastore_dumper.request('b', false)")
    found = status(database, "b")
    assert found is not None
    assert found["requested_at"] is not None
    (entry,) = entries(database, state="waiting")
    assert (entry["resource_id"], entry["requested_at"]) == ("b", found["requested_at"])
    for resource_id in ("", "nope", "a'--", "_table_metadata", "pg_class", "x" * 1000):
        assert status(database, resource_id) is None


def test_dropped_and_renamed_tables_are_not_listed(writer, database: ScratchDatabase) -> None:
    writer.execute("DROP TABLE a")
    writer.execute("ALTER TABLE b RENAME TO z")
    assert ids(entries(database)) == ["c"]


def test_daemons_are_counted(writer, dumper: Dumper, database: ScratchDatabase) -> None:
    assert ask(database, "SELECT datastore_dumper.daemons()") == [{"daemons": 0}]
    with dumper.running():
        assert ask(database, "SELECT datastore_dumper.daemons()") == [{"daemons": 1}]


def test_nobody_else_may_ask(writer, database: ScratchDatabase) -> None:
    with database.connect() as admin:
        admin.execute("DROP ROLE IF EXISTS somebody")
        admin.execute("CREATE ROLE somebody")
        try:
            admin.execute("SET ROLE somebody")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                admin.execute("SELECT * FROM datastore_dumper.status('a')")
        finally:
            admin.execute("RESET ROLE")
            admin.execute("DROP ROLE somebody")
