"""Describes a whole database from its catalogs, so that two can be compared: objects, definitions, rights."""

from __future__ import annotations

import psycopg

# Each gives rows of text that name things by name, not by oid.
_QUESTIONS = {
    "schemas": "SELECT nspname, pg_get_userbyid(nspowner), nspacl FROM pg_namespace WHERE nspname !~ '^pg_'",
    "relations": """
        SELECT n.nspname, c.relname, c.relkind, pg_get_userbyid(c.relowner), c.relacl, c.reloptions,
            CASE WHEN c.relkind = 'v' THEN pg_get_viewdef(c.oid) END, obj_description(c.oid, 'pg_class')
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'""",
    "columns": """
        SELECT n.nspname, c.relname, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
            pg_get_expr(d.adbin, d.adrelid), col_description(c.oid, a.attnum)
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
        WHERE a.attnum > 0 AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'""",
    "constraints": "SELECT conrelid::regclass, conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid <> 0",
    "functions": """
        SELECT n.nspname, pg_get_functiondef(p.oid), pg_get_userbyid(p.proowner), p.proacl,
            obj_description(p.oid, 'pg_proc')
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND p.prokind = 'f'""",
    "triggers": """
        SELECT tgrelid::regclass, tgenabled, pg_get_triggerdef(oid), obj_description(oid, 'pg_trigger')
        FROM pg_trigger WHERE NOT tgisinternal""",
    "event triggers": "SELECT evtname, evtevent, evtenabled, evttags, evtfoid::regproc FROM pg_event_trigger",
    "default rights": """
        SELECT pg_get_userbyid(defaclrole), defaclnamespace::regnamespace, defaclobjtype, defaclacl FROM pg_default_acl""",
    "roles": "SELECT rolname, rolsuper, rolcanlogin, rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname !~ '^pg_'",
    "memberships": "SELECT pg_get_userbyid(roleid), pg_get_userbyid(member) FROM pg_auth_members WHERE roleid >= 16384",
}


def describe(connection: psycopg.Connection[tuple[object, ...]]) -> dict[str, list[str]]:
    """Every question's answers, sorted."""
    return {
        subject: sorted(repr(row) for row in connection.execute(question.encode()).fetchall())
        for subject, question in _QUESTIONS.items()
    }
