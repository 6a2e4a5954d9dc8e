"""How a column's value reads in CKAN's queries: as text for CSV and TSV, as JSON for JSON and XML.

The rules are CKAN's (ckanext/datastore/backend/postgres.py, datastore_search), by the name of the column's type.
"""

from __future__ import annotations

from psycopg import sql

from datastore_dumper.formats.base import Column, Compat

_SAME_AS_JSON = frozenset({"int2", "int4", "int8"})
"""Types whose text is their JSON."""
_PLAIN_JSON = frozenset(
    [
        "bit",
        "bool",
        "bpchar",
        "bytea",
        "cidr",
        "date",
        "inet",
        "int2",
        "int4",
        "int8",
        "interval",
        "macaddr",
        "money",
        "name",
        "text",
        "time",
        "timestamp",
        "timestamptz",
        "timetz",
        "tsvector",
        "uuid",
        "varbit",
        "varchar",
    ]
)
"""Types whose values, and those of arrays of them, Postgres writes as CKAN does after decoding and encoding: integers,
booleans, null, and strings, in which both escape the control characters, the quote and the backslash and nothing else."""


def text_value(column: Column, compat: Compat) -> sql.Composed:
    """The expression whose text CKAN sends for a column."""
    name = sql.Identifier(column.name)
    if column.type == "nested":
        return sql.SQL("coalesce(({}).json, 'null')").format(name)
    if column.type == "timestamp":
        return _timestamp(name, compat)
    if column.type.startswith("_"):
        return sql.SQL("coalesce(array_to_json({}), 'null')").format(name)
    return sql.Composed([name])


def json_value(column: Column, compat: Compat) -> sql.Composed:
    """The expression whose text is the JSON that CKAN gets for a column; SQL's NULL where CKAN gets `null`."""
    name = sql.Identifier(column.name)
    if column.type == "nested":
        return sql.SQL("({}).json").format(name)
    if column.type == "timestamp":
        return sql.SQL("to_json({})").format(_timestamp(name, compat))
    if column.type.startswith("_"):
        return sql.SQL("array_to_json({})").format(name)
    return sql.Composed([name]) if column.type in _SAME_AS_JSON else sql.SQL("to_json({})").format(name)


def is_plain_json(column: Column) -> bool:
    """Whether Postgres' JSON of the column is CKAN's, byte for byte.

    Not so with numbers that have a fraction or an exponent, for CKAN makes them floats of Python; JSON that somebody
    stored; and types that we do not know.
    """
    return column.type.removeprefix("_") in _PLAIN_JSON


def _timestamp(name: sql.Identifier, compat: Compat) -> sql.Composed:
    pattern = 'YYYY-MM-DD"T"HH24:MI:SS.MS' if compat.milliseconds else 'YYYY-MM-DD"T"HH24:MI:SS'
    return sql.SQL("to_char({}, {})").format(name, pattern)
