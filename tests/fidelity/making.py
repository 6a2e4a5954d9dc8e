"""Makes the tables of recipes in a running CKAN: resources and half of the tables over its API, the others by SQL."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
from psycopg import sql

from tests.fidelity.recipes import Column, Recipe
from tests.fidelity.values import OWN_TYPES_SQL
from tests.support.ckan_site import CkanSite
from tests.support.datastore import WRITE_ROLE
from tests.support.postgres import Connection

_RESOURCES_PER_DATASET = 20
_CALLS_AT_ONCE = 4


def make_own_types(connection: Connection) -> None:
    """Before CKAN looks up the types that there are: it does so once."""
    with connection.transaction():
        connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(WRITE_ROLE)))
        connection.execute(OWN_TYPES_SQL.encode())


def make_tables(
    site: CkanSite, connection: Connection, release: str, recipes: Sequence[Recipe], progress: Callable[[int], None]
) -> None:
    """`connection` is a superuser's, to the DataStore. `progress` gets the number of tables made so far."""
    for first in range(0, len(recipes), _RESOURCES_PER_DATASET):
        resources = [
            {"id": recipe.resource_id, "name": recipe.kind, "url": "_datastore_only_resource", "url_type": "datastore"}
            for recipe in recipes[first : first + _RESOURCES_PER_DATASET]
        ]
        site.action("package_create", name=f"fidelity-{first}", resources=resources)
    by_sql = [recipe for recipe in recipes if not recipe.over_api]
    over_api = [recipe for recipe in recipes if recipe.over_api]
    _make_over_api(site, release, over_api[:1])  # the first makes the type `nested`
    progress(1)
    with connection.transaction():
        connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(WRITE_ROLE)))
        for recipe in by_sql:
            _make_by_sql(connection, recipe)
    progress(1 + len(by_sql))
    _make_over_api(site, release, over_api[1:])
    execute(connection, [(recipe, recipe.statements) for recipe in recipes])
    progress(len(recipes))


def execute(connection: Connection, work: Sequence[tuple[Recipe, Sequence[str]]]) -> None:
    """Run statements on their tables as CKAN's write role, in one transaction."""
    with connection.transaction():
        connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(WRITE_ROLE)))
        for recipe, statements in work:
            table = sql.Identifier(recipe.resource_id).as_string(connection)
            for statement in statements:
                connection.execute(statement.replace("{table}", table).encode())


def _make_over_api(site: CkanSite, release: str, recipes: Sequence[Recipe]) -> None:
    def make(recipe: Recipe) -> None:
        for action, data in _api_calls(recipe, release):
            site.action(action, resource_id=recipe.resource_id, force=True, **data)

    with ThreadPoolExecutor(_CALLS_AT_ONCE) as pool:
        list(pool.map(make, recipes))


def _api_calls(recipe: Recipe, release: str) -> Iterator[tuple[str, dict[str, Any]]]:
    fields = [
        {"id": column.name, "type": column.type, **({} if column.info is None else {"info": column.info})}
        for column in recipe.columns
    ]
    # Some of the rows with the table, as forms do, and the others later, as scripts do.
    records = [
        {column.name: _api_value(column, value) for column, value in zip(recipe.columns, row, strict=True)}
        for row in recipe.rows
    ]
    half = len(records) // 2
    create: dict[str, Any] = {"fields": fields, "records": records[:half]}
    if recipe.primary_key:
        create["primary_key"] = list(recipe.primary_key)
    if recipe.alias:
        create["aliases"] = [recipe.alias]
    yield "datastore_create", create
    yield "datastore_upsert", {"method": "insert", "records": records[half:]}
    for action, data in recipe.calls:
        if "delete_fields" in data and release == "2.10":
            continue  # 2.11 brought it
        yield action, data


def _api_value(column: Column, value: str | None) -> Any:
    return json.loads(value) if column.type == "nested" and value is not None else value


def _make_by_sql(connection: Connection, recipe: Recipe) -> None:
    table = sql.Identifier(recipe.resource_id)
    definitions: list[sql.Composable] = [sql.SQL("_id serial PRIMARY KEY"), sql.SQL("_full_text tsvector")]
    definitions += [sql.SQL("{} {}").format(sql.Identifier(c.name), sql.SQL(c.type)) for c in recipe.columns]
    connection.execute(sql.SQL("CREATE TABLE {} ({})").format(table, sql.SQL(", ").join(definitions)))
    # Without the names of columns: in the text of a query with parameters, percent signs have a meaning.
    cells = [sql.SQL("DEFAULT"), sql.SQL("DEFAULT"), *([sql.Placeholder()] * len(recipe.columns))]
    insert = sql.SQL("INSERT INTO {} VALUES ({})").format(table, sql.SQL(", ").join(cells))
    try:
        if recipe.rows:
            connection.cursor().executemany(insert, recipe.rows)
    except psycopg.Error as error:
        raise AssertionError(f"{recipe} has a value that Postgres refuses: {error}") from error
    comments = [(column.name, column.comment) for column in recipe.columns] + [("_id", recipe.comment_on_id)]
    for name, comment in comments:
        if comment is not None:
            connection.execute(
                sql.SQL("COMMENT ON COLUMN {}.{} IS {}").format(table, sql.Identifier(name), sql.Literal(comment))
            )
