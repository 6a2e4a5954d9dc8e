"""The page on the SQL contract says what is in the database, and its queries run."""

from __future__ import annotations

import pytest

from datastore_dumper.install import install
from tests.support.installation import ROLES, handle
from tests.support.pages import blocks
from tests.support.postgres import ScratchDatabase
from tests.support.sql_reference import PAGE, page, tables


@pytest.fixture
def installed(database: ScratchDatabase) -> ScratchDatabase:
    install(handle(database), ROLES)
    return database


def test_the_page_is_that_of_the_catalog(installed: ScratchDatabase) -> None:
    with installed.connect() as connection:
        found = tables(connection)
    text = PAGE.read_text(encoding="utf-8")
    assert page(text, found) == text, "run: python -m tests.support.sql_reference"
    assert all(f"<!-- generated: {name} -->" in text for name in found)


def test_nobody_else_may_do_anything(installed: ScratchDatabase) -> None:
    with installed.connect() as connection:
        granted = connection.execute(
            "SELECT count(*) FROM pg_class AS c, aclexplode(c.relacl) AS a "
            "WHERE c.relnamespace = 'datastore_dumper'::regnamespace AND a.grantee = 0"
        ).fetchone()
        callable_by_all = connection.execute(
            "SELECT count(*) FROM pg_proc AS p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a "
            "WHERE p.pronamespace = 'datastore_dumper'::regnamespace AND a.grantee = 0"
        ).fetchone()
    assert granted == callable_by_all == (0,)


def test_the_queries_of_the_page_run(installed: ScratchDatabase) -> None:
    (text,) = blocks(PAGE, "sql")
    statements = [statement.strip() for statement in text.split(";") if statement.strip()]
    assert len(statements) == 3
    with installed.connect("dumper") as connection:
        for statement in statements:
            connection.execute(statement.encode())
