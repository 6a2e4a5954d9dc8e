"""`ask` and `choice`: how visitors have files made of tables whose files are kept on demand."""

from __future__ import annotations

import psycopg
import pytest

from datastore_dumper.install import install
from tests.support.datastore import create_table
from tests.support.installation import ROLES, handle
from tests.support.postgres import ScratchDatabase


@pytest.fixture
def writer(database: ScratchDatabase):
    """Tables a and b for which nobody has asked, and a connection of CKAN's write role."""
    install(handle(database), ROLES)
    with database.connect("ckan_write") as connection:
        for name in ("a", "b"):
            create_table(connection, name, {"n": "int4"})
        decide(database, "not_asked")
        yield connection


def decide(database: ScratchDatabase, choice: str, asked: str = "NULL") -> None:
    with database.connect() as admin:
        admin.execute(
            "UPDATE datastore_dumper.resource SET choice = %s, choice_detail = 'why', requested_at = NULL, "
            f"formats = CASE WHEN %s IN ('always', 'on_demand') THEN '{{csv}}'::text[] ELSE '{{}}' END, asked_at = {asked}",
            [choice, choice],
        )


def ask(connection: psycopg.Connection, resource_id: str) -> bool:
    row = connection.execute("SELECT datastore_dumper.ask(%s)", [resource_id]).fetchone()
    assert row is not None
    return row[0]


def noted(database: ScratchDatabase) -> dict[str, tuple[bool, bool]]:
    """By table: whether an export is requested, and whether it counts as asked for now."""
    with database.connect() as admin:
        return {
            name: (requested, asked)
            for name, requested, asked in admin.execute(
                "SELECT resource_id, requested_at IS NOT NULL, coalesce(asked_at > now() - interval '1 minute', false) "
                "FROM datastore_dumper.resource"
            )
        }


def worth_asking(database: ScratchDatabase, resource_id: str) -> bool:
    with database.connect("ckan_read") as reader:
        row = reader.execute("SELECT is_worth_asking FROM datastore_dumper.choice(%s)", [resource_id]).fetchone()
        return row is not None and row[0]


def test_the_first_to_ask_requests_an_export(writer, database: ScratchDatabase) -> None:
    assert worth_asking(database, "a")
    assert ask(writer, "a")
    assert noted(database) == {"a": (True, True), "b": (False, False)}
    assert not worth_asking(database, "a")
    assert not ask(writer, "a")


def test_a_use_is_noted_once_in_an_hour_and_requests_nothing(writer, database: ScratchDatabase) -> None:
    decide(database, "on_demand", "now() - interval '59 minutes'")
    assert not worth_asking(database, "a")
    assert not ask(writer, "a")
    decide(database, "on_demand", "now() - interval '61 minutes'")
    assert worth_asking(database, "a")
    assert ask(writer, "a")
    assert not ask(writer, "a")
    assert noted(database) == {"a": (False, True), "b": (False, False)}


@pytest.mark.parametrize("choice", ["always", "excluded", "too_small"])
def test_where_there_is_nothing_to_ask_for(writer, database: ScratchDatabase, choice: str) -> None:
    decide(database, choice, "'-infinity'")
    assert not worth_asking(database, "a")
    assert not ask(writer, "a")
    assert noted(database) == {"a": (False, False), "b": (False, False)}


def test_whoever_asks_before_anything_is_decided_is_noted(writer, database: ScratchDatabase) -> None:
    with database.connect() as admin:
        admin.execute("UPDATE datastore_dumper.resource SET choice = NULL, formats = NULL")
    assert worth_asking(database, "a")
    assert ask(writer, "a")
    assert not worth_asking(database, "a")
    assert not ask(writer, "a")
    assert noted(database)["a"] == (False, True)


def test_no_more_than_a_hundred_exports_queue_up(writer, database: ScratchDatabase) -> None:
    with database.connect() as admin:
        admin.execute(
            "INSERT INTO datastore_dumper.resource (relid, resource_id, requested_at) "
            "SELECT n, n::text, now() FROM generate_series(1, 99) AS n"
        )
    assert ask(writer, "a")
    assert not ask(writer, "b")
    with database.connect() as admin:
        admin.execute("UPDATE datastore_dumper.resource SET requested_at = NULL WHERE resource_id = '1'")
    assert ask(writer, "b")


def test_it_waits_for_nobody(writer, database: ScratchDatabase) -> None:
    with database.connect() as admin, admin.transaction():
        admin.execute("SELECT FROM datastore_dumper.resource FOR UPDATE")
        writer.execute("SET statement_timeout = '5s'")
        assert not ask(writer, "a")
    assert ask(writer, "a")


@pytest.mark.parametrize("name", ["", "nope", "a'--", "_table_metadata", "pg_class", "x" * 1000])
def test_unknown_and_hostile_ids(writer, database: ScratchDatabase, name: str) -> None:
    assert not ask(writer, name)
    assert not worth_asking(database, name)


def test_who_may_ask(writer, database: ScratchDatabase) -> None:
    for role in ("ckan_read", "dumper"):
        with database.connect(role) as other, pytest.raises(psycopg.errors.InsufficientPrivilege):
            ask(other, "a")


def test_a_request_counts_as_asking(writer, database: ScratchDatabase) -> None:
    writer.execute("SELECT datastore_dumper.request('a', false)")
    assert noted(database)["a"] == (True, True)
