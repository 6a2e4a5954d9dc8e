"""Writes the tables of docs/reference/sql.md from an installed database: `python -m tests.support.sql_reference`.

What is written by hand stays; each table stands between two comments. A test fails while the page differs from the catalog.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from datastore_dumper.install import install
from tests.support.datastore import DUMPER_ROLE, READ_ROLE, WRITE_ROLE, prepare_datastore
from tests.support.installation import ROLES, handle
from tests.support.postgres import Connection, ScratchDatabase, running_server

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "sql.md"
_ROLES = {DUMPER_ROLE: "daemon", WRITE_ROLE: "CKAN, write", READ_ROLE: "CKAN, read"}
_RELATIONS = """
    SELECT c.relname, obj_description(c.oid, 'pg_class'),
        ARRAY(
            SELECT concat_ws(' ', r.role, string_agg(p.privilege, ', ' ORDER BY p.number))
            FROM unnest(%(roles)s::text[]) WITH ORDINALITY AS r (role, place)
            CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) WITH ORDINALITY AS p (privilege, number)
            WHERE has_table_privilege(r.role, c.oid, p.privilege)
            GROUP BY r.role, r.place ORDER BY r.place
        )
    FROM pg_class AS c
    WHERE c.relnamespace = 'datastore_dumper'::regnamespace AND c.relkind = ANY (%(kinds)s)
    ORDER BY c.relname
"""
_COLUMNS = """
    SELECT a.attname, format_type(a.atttypid, a.atttypmod), coalesce(col_description(a.attrelid, a.attnum), '')
    FROM pg_attribute AS a
    WHERE a.attrelid = %(relation)s::regclass AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attnum
"""
_FUNCTIONS = """
    SELECT p.proname || '(' || pg_get_function_arguments(p.oid) || ')', pg_get_function_result(p.oid),
        coalesce(obj_description(p.oid, 'pg_proc'), ''),
        ARRAY(
            SELECT r.role FROM unnest(%(roles)s::text[]) WITH ORDINALITY AS r (role, place)
            WHERE has_function_privilege(r.role, p.oid, 'EXECUTE') ORDER BY r.place
        )
    FROM pg_proc AS p
    WHERE p.pronamespace = 'datastore_dumper'::regnamespace
    ORDER BY 1
"""


def tables(connection: Connection) -> dict[str, str]:
    """The tables by their names, as the page has them."""
    roles = list(_ROLES)
    found: dict[str, str] = {}
    for name, kinds in (("tables", ["r"]), ("views", ["v"])):
        rows = connection.execute(_RELATIONS, {"roles": roles, "kinds": kinds}).fetchall()
        found[name] = _table(
            ("Name", "What it is", "Who may do what"),
            ((f"`{relation}`", comment or "", "; ".join(map(_named, grants))) for relation, comment, grants in rows),
        )
    columns = connection.execute(_COLUMNS, {"relation": "datastore_dumper.dump_status"}).fetchall()
    found["dump_status"] = _table(
        ("Column", "Type", ""), ((f"`{column}`", f"`{kind}`", comment) for column, kind, comment in columns)
    )
    functions = connection.execute(_FUNCTIONS, {"roles": roles}).fetchall()
    asked = [(signature, result, comment, who) for signature, result, comment, who in functions if who]
    found["functions"] = _table(
        ("Function", "Returns", "What it does", "Who may call it"),
        (
            (f"`{signature}`", f"`{result}`", comment, ", ".join(_ROLES[role] for role in who))
            for signature, result, comment, who in asked
        ),
    )
    found["internal"] = (
        ", ".join(f"`{signature.partition('(')[0]}`" for signature, _, _, who in functions if not who) + "\n"
    )
    return found


def _named(grant: str) -> str:
    """`dumper SELECT, UPDATE` with what the role is for in place of its name."""
    role, _, privileges = grant.partition(" ")
    return f"{_ROLES[role]}: {privileges}"


def _table(heading: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [heading, tuple("---" for _ in heading), *rows]
    return "".join(
        f"| {' | '.join(' '.join(cell.split()).replace('|', '&#124;') for cell in line)} |\n" for line in lines
    )


def page(text: str, content: Mapping[str, str]) -> str:
    """The page with these tables. Raises `KeyError` for one that it has and there is not."""

    def replaced(match: re.Match[str]) -> str:
        return f"{match[1]}\n{content[match[2]]}\n{match[4]}"

    return re.sub(r"(<!-- generated: (\w+) -->\n)(.*?)(<!-- end -->)", replaced, text, flags=re.DOTALL)


def main() -> None:
    """Bring the page up to date."""
    with running_server() as server, server.new_database("reference") as name:
        database = ScratchDatabase(server, name)
        with database.connect() as connection:
            prepare_datastore(connection)
            install(handle(database), ROLES)
            PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), tables(connection)), encoding="utf-8")


if __name__ == "__main__":
    main()
