"""A DataStore without CKAN: what CKAN 2.12 puts into a database, and tables with the shape that it gives them.

Follows ckanext/datastore/set_permissions.sql and create_table, _create_fulltext_trigger in
ckanext/datastore/backend/postgres.py of CKAN 2.12.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

WRITE_ROLE = "ckan_write"  # owns the tables
READ_ROLE = "ckan_read"
DUMPER_ROLE = "dumper"  # the daemon's; it has no rights until they are granted

_PERMISSIONS = """
REVOKE CREATE, USAGE ON SCHEMA public FROM PUBLIC;
GRANT CREATE, USAGE ON SCHEMA public TO {write};
GRANT USAGE ON SCHEMA public TO {read};
GRANT SELECT ON ALL TABLES IN SCHEMA public TO {read};
ALTER DEFAULT PRIVILEGES FOR ROLE {write} IN SCHEMA public GRANT SELECT ON TABLES TO {read};

CREATE FUNCTION populate_full_text_trigger() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW._full_text IS NULL THEN
        SELECT to_tsvector(string_agg(value, ' ')) INTO NEW._full_text
        FROM json_each_text(row_to_json(NEW)) WHERE NOT starts_with(key, '_');
    END IF;
    RETURN NEW;
END
$$;
ALTER FUNCTION populate_full_text_trigger() OWNER TO {write};

CREATE TYPE nested AS (json json, extra text);
ALTER TYPE nested OWNER TO {write};

CREATE TABLE _table_stats (resource_id name PRIMARY KEY, stats jsonb NOT NULL);
ALTER TABLE _table_stats OWNER TO {write};

CREATE VIEW _table_metadata AS
    SELECT left(md5(source.relname || coalesce(view.relname, '')), 16) AS _id,
        source.relname AS name, source.oid AS oid, view.relname AS alias_of
    FROM pg_class AS source
    LEFT JOIN pg_rewrite AS rule ON rule.ev_class = source.oid
    LEFT JOIN pg_depend AS dependency ON dependency.objid = rule.oid
    LEFT JOIN pg_class AS view ON view.oid = dependency.refobjid
    WHERE source.oid IS DISTINCT FROM view.oid AND source.relkind IN ('r', 'v')
        AND source.relnamespace = 'public'::regnamespace AND NOT starts_with(source.relname, '_');
ALTER VIEW _table_metadata OWNER TO {write};
GRANT SELECT ON _table_metadata TO {read};
"""


def prepare_datastore(connection: psycopg.Connection[TupleRow]) -> None:
    """Do in the connection's database what `ckan datastore set-permissions` and CKAN's first start do. Needs a superuser."""
    with connection.transaction():
        connection.execute(
            sql.SQL(_PERMISSIONS).format(write=sql.Identifier(WRITE_ROLE), read=sql.Identifier(READ_ROLE))
        )


def create_table(
    connection: psycopg.Connection[TupleRow],
    resource_id: str,
    columns: Mapping[str, str],
    *,
    info: Mapping[str, Mapping[str, object]] | None = None,
) -> None:
    """Create a table as `datastore_create` does, owned by CKAN's write role.

    `columns` maps names to types as SQL writes them (`nested` is CKAN's own); `info` maps names to what the data
    dictionary says of them. `connection` is a superuser's or the write role's.
    """
    table = sql.Identifier(resource_id)
    definitions = [
        sql.SQL("_id serial PRIMARY KEY"),
        sql.SQL("_full_text tsvector"),
        *(sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(type_)) for name, type_ in columns.items()),
    ]
    with connection.transaction():
        connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(WRITE_ROLE)))
        connection.execute(sql.SQL("CREATE TABLE {} ({})").format(table, sql.SQL(", ").join(definitions)))
        for name, about in (info or {}).items():
            # The leading space tells CKAN >= 2.11 that this is not the older format.
            text = " " + json.dumps({"_info": about}, ensure_ascii=False, separators=(",", ":"))
            comment = sql.SQL("COMMENT ON COLUMN {}.{} IS {}").format(table, sql.Identifier(name), sql.Literal(text))
            connection.execute(comment)
        connection.execute(
            sql.SQL(
                "CREATE TRIGGER zfulltext BEFORE INSERT OR UPDATE ON {} "
                "FOR EACH ROW EXECUTE FUNCTION populate_full_text_trigger()"
            ).format(table)
        )


def insert(
    connection: psycopg.Connection[TupleRow],
    resource_id: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
) -> None:
    """Insert rows in one transaction, a statement each, like `datastore_upsert` with method insert."""
    statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
        sql.Identifier(resource_id),
        sql.SQL(", ").join(map(sql.Identifier, columns)),
        sql.SQL(", ").join(sql.Placeholder() * len(columns)),
    )
    with connection.transaction(), connection.cursor() as cursor:
        cursor.executemany(statement, rows)
