"""Tables as CKAN makes them, with every kind of column that it knows, filled with rows that are told by their numbers."""

from __future__ import annotations

from psycopg import sql

from tests.support.datastore import create_table
from tests.support.postgres import Connection, ScratchDatabase

RESOURCE_ID = "5b1f1c1e-7f39-4d8e-9a53-2f8f7d1f6c11"
COLUMNS = {
    "station": "text",
    "remark": "text",
    "reading": "float8",
    "people": "int4",
    "measured_at": "timestamp",
    "amount": "numeric",
    "valid": "bool",
    "tags": "text[]",
    "place": "nested",
}

# Values follow from the number i of the row; h is a hash of it, so that neighbours differ and gzip has work.
# array_to_tsvector fills _full_text with a fraction of the work of CKAN's trigger, which leaves a filled one alone.
_ROWS = """
SELECT
    array_to_tsvector(ARRAY['station', 'town' || i % 500, 'round', 'sensor', 'noon', 'x' || h]) AS _full_text,
    'Station ' || i % 500 || ', Town Hall' AS station,
    CASE i % 5 WHEN 0 THEN NULL WHEN 1 THEN 'Sensor "' || to_hex(h) || '", replaced'
        ELSE 'round at noon by team ' || h % 97 || E'; note\\n' || to_hex(h) END AS remark,
    (h % 100000)::float8 / 997 AS reading,
    (h % 5000)::int4 AS people,
    timestamp '2020-01-01' + i % 30000000 * interval '1 second' + h % 1000 * interval '1 millisecond' AS measured_at,
    (h % 10000000)::numeric / 100 AS amount,
    h % 3 = 0 AS valid,
    ARRAY['noise', 'air ' || h % 12, 'k' || i % 40] AS tags,
    ROW(json_build_object('lat', 47 + (h % 10000) / 1e4, 'lon', 8 + (i % 10000) / 1e4), NULL)::nested AS place
FROM (SELECT i, hashint8extended(i, 7) & 2147483647 AS h FROM generate_series({first}::bigint, {last}::bigint) AS i) AS n
"""


def create(connection: Connection, resource_id: str = RESOURCE_ID) -> None:
    """An empty table. `connection` is a superuser's or the write role's."""
    create_table(connection, resource_id, COLUMNS)


def rows_query(first: int, last: int) -> sql.Composed:
    """Rows of these numbers, `_full_text` first and then the columns of `COLUMNS`."""
    return sql.SQL(_ROWS).format(first=sql.Literal(first), last=sql.Literal(last))


def append(connection: Connection, first: int, last: int, resource_id: str = RESOURCE_ID) -> None:
    """Insert rows in one statement."""
    columns = sql.SQL(", ").join(map(sql.Identifier, ("_full_text", *COLUMNS)))
    insert = sql.SQL("INSERT INTO {} ({}) ").format(sql.Identifier(resource_id), columns)
    connection.execute(insert + rows_query(first, last))


def load(database: ScratchDatabase, rows: int, resource_id: str = RESOURCE_ID) -> None:
    """A table at rest: created, filled, vacuumed, and on the disk."""
    with database.connect() as connection:
        create(connection, resource_id)
        append(connection, 1, rows, resource_id)
        connection.execute(sql.SQL("VACUUM (FREEZE, ANALYZE) {}").format(sql.Identifier(resource_id)))
        connection.execute("CHECKPOINT")
