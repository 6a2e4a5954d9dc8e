"""What our formats make of a table, put together from segments as the worker does."""

from __future__ import annotations

from contextlib import closing
from itertools import chain

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from datastore_dumper.export import copy_out
from datastore_dumper.formats import Column, Compat, Table, file_format
from datastore_dumper.sqlfiles import query

WHOLE = ("true",)


def table_of(connection: psycopg.Connection[TupleRow], resource_id: str) -> Table:
    row = connection.execute("SELECT to_regclass(quote_ident(%s))::oid::bigint", [resource_id]).fetchone()
    assert row is not None
    columns = connection.execute(query("columns"), {"relid": row[0]}).fetchall()
    return Table(resource_id, tuple(Column(*column) for column in columns))


def made(
    connection: psycopg.Connection[TupleRow],
    resource_id: str,
    name: str,
    compat: Compat,
    segments: tuple[str, ...] = WHOLE,
) -> bytes:
    """The file in the format called `name`, from segments given by their conditions."""
    table = table_of(connection, resource_id)
    file = file_format(name)
    pieces = []
    for condition in segments:
        copy = file.format.copy_query(table, compat, sql.SQL(condition)).as_string(connection)  # type: ignore[arg-type]
        with closing(copy_out(connection, copy)) as messages:
            piece = b"".join(file.format.rows(chain.from_iterable(messages), table, compat))
        if piece:
            pieces.append(piece)
    return file.head(table, compat) + file.format.joiner.join(pieces) + file.format.tail(table, compat)
