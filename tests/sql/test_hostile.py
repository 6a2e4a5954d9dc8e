"""What the owner of a table may try: none of it runs with the rights of our functions or of the daemon."""

from __future__ import annotations

import psycopg
import pytest

from datastore_dumper.install import install, printed_script, uninstall
from tests.support.daemon import Dumper
from tests.support.datastore import create_table
from tests.support.installation import ROLES, handle
from tests.support.postgres import ScratchDatabase

# A trap writes down who fell into it.
_TRAP = """
CREATE TABLE _caught (who text, how text);
GRANT INSERT ON _caught TO PUBLIC;
CREATE FUNCTION trap(how text) RETURNS void LANGUAGE sql AS
    $$ INSERT INTO public._caught VALUES (current_user, how) $$;
"""

# Each makes `_id` of table t something of the owner's own, with code behind what we do to it.
_IDS = {
    "a type that casts itself to a number": """
        CREATE TYPE sly AS (n int);
        CREATE FUNCTION sly_number(sly) RETURNS int LANGUAGE plpgsql AS
            $$ BEGIN PERFORM public.trap('cast'); RETURN 1; END $$;
        CREATE CAST (sly AS int) WITH FUNCTION sly_number(sly) AS IMPLICIT;
        ALTER TABLE t ALTER _id DROP DEFAULT, ALTER _id TYPE sly USING ROW(_id)::sly;
        INSERT INTO t (_id) VALUES (ROW(7)::sly)""",
    "a type with an operator of its own": """
        CREATE TYPE sly AS (n int);
        CREATE FUNCTION sly_shift(sly, int) RETURNS bigint LANGUAGE plpgsql AS
            $$ BEGIN PERFORM public.trap('operator'); RETURN 1; END $$;
        CREATE OPERATOR >> (LEFTARG = sly, RIGHTARG = int, FUNCTION = sly_shift);
        ALTER TABLE t ALTER _id DROP DEFAULT, ALTER _id TYPE sly USING ROW(_id)::sly;
        INSERT INTO t (_id) VALUES (ROW(7)::sly)""",
    "a range that numbers cast themselves to": """
        CREATE TYPE sly AS RANGE (subtype = text);
        CREATE FUNCTION number_sly(int) RETURNS sly IMMUTABLE LANGUAGE plpgsql AS
            $$ BEGIN PERFORM public.trap('constant'); RETURN 'empty'; END $$;
        CREATE CAST (int AS sly) WITH FUNCTION number_sly(int) AS IMPLICIT;
        ALTER TABLE t ALTER _id DROP DEFAULT, ALTER _id TYPE sly USING 'empty';
        INSERT INTO t (_id) VALUES ('[a,b)')""",
    "a domain with a check": """
        CREATE FUNCTION fine(int) RETURNS boolean LANGUAGE plpgsql AS
            $$ BEGIN IF current_user <> session_user THEN PERFORM public.trap('domain'); END IF; RETURN true; END $$;
        CREATE DOMAIN sly AS int CHECK (fine(VALUE));
        ALTER TABLE t ALTER _id TYPE sly;
        INSERT INTO t (_id) VALUES (7)""",
}


@pytest.fixture
def writer(database: ScratchDatabase):
    """The owner of table t, which has our triggers, and of a trap."""
    install(handle(database), ROLES)
    with database.connect("ckan_write") as connection:
        create_table(connection, "t", {"a": "text"})
        connection.execute("INSERT INTO t (a) VALUES ('x')")
        connection.execute(_TRAP)
        yield connection


def caught(database: ScratchDatabase) -> list[tuple[str, str]]:
    with database.connect() as admin:
        return admin.execute("SELECT DISTINCT who, how FROM _caught").fetchall()


@pytest.mark.parametrize("kind", _IDS)
def test_an_id_of_the_owners_own_type_runs_no_code_with_our_rights(writer, database: ScratchDatabase, kind) -> None:
    writer.execute(_IDS[kind])
    writer.execute("UPDATE t SET a = 'y'")
    writer.execute("DELETE FROM t")
    assert caught(database) == []
    with database.connect() as admin:
        assert admin.execute("SELECT DISTINCT bucket FROM datastore_dumper.change ORDER BY 1 LIMIT 1").fetchone() == (
            -1,
        )


# Better matches for what our queries compare than Postgres has itself: an oid with a number, a transaction id with a text.
_PAIRS = [
    ("oid", "=", "smallint"),
    ("oid", "=", "int"),
    ("oid", "=", "bigint"),
    ("xid8", "=", "text"),
    ("name", "=", "varchar"),
    ("text", "=", "varchar"),
    ("bigint", "=", "numeric"),
    ("int", ">=", "numeric"),
    ("int", "<", "numeric"),
    ("bigint", "<", "numeric"),
]


def lay_traps(writer: psycopg.Connection) -> None:
    for number, (left, operator, right) in enumerate(_PAIRS):
        writer.execute(
            f"CREATE FUNCTION spy{number}({left}, {right}) RETURNS boolean LANGUAGE plpgsql AS "
            f"$$ BEGIN PERFORM public.trap('{left} {operator} {right}'); RETURN true; END $$"
        )
        writer.execute(f"CREATE OPERATOR {operator} (LEFTARG = {left}, RIGHTARG = {right}, FUNCTION = spy{number})")
    for arguments in ("text, name, text", "varchar, oid, text"):
        writer.execute(
            f"CREATE FUNCTION has_table_privilege({arguments}) RETURNS boolean LANGUAGE plpgsql AS "
            "$$ BEGIN PERFORM public.trap('function'); RETURN true; END $$"
        )


def test_operators_that_shadow_postgres_own_are_not_seen_by_the_daemon(
    writer, database: ScratchDatabase, dumper: Dumper
) -> None:
    lay_traps(writer)
    with database.connect() as admin:
        admin.execute("GRANT USAGE ON SCHEMA public TO PUBLIC")
        admin.execute("DELETE FROM _caught")
    assert dumper.once(export={"formats": ["csv", "json", "xml", "csv.gz"]}) == 0
    writer.execute("INSERT INTO t (a) VALUES ('y')")
    assert dumper.once(export={"formats": ["csv", "json", "xml", "csv.gz"]}) == 0
    assert dumper.file("t") == b"_id,a\r\n1,x\n2,y\n"
    assert caught(database) == []


def test_they_are_not_seen_by_whoever_installs(writer, database: ScratchDatabase) -> None:
    uninstall(handle(database))
    lay_traps(writer)
    with database.connect() as admin:
        admin.execute("DELETE FROM _caught")
        admin.execute(printed_script(ROLES).split("\\set")[1].partition("\n")[2].encode())
    install(handle(database), ROLES)
    uninstall(handle(database))
    assert caught(database) == []
