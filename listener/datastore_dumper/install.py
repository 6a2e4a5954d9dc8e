"""Puts the schema `datastore_dumper` into a database and takes it out again. What it is, is in `sql/`; this composes it.

The same script goes to the server and, with `--print`, to a DBA's psql: it is idempotent and brings any older schema up to
date. Numbered migrations run once; functions, views and privileges are replaced every time.
"""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import errors, sql

from datastore_dumper.database import Connection, Database, database_errors, require_release
from datastore_dumper.errors import DumperError, PermissionDeniedError, UnavailableError
from datastore_dumper.failpoints import failpoint
from datastore_dumper.sqlfiles import query, read_sql, sql_directory

# Replaced at every install, as the owner of the schema.
_OWNED = ("1_functions.sql", "1_portal_functions.sql", "2_event_functions.sql", "3_privileges.sql")

_ATTACH_ROUNDS = 5
_ATTACH_PAUSE_SECONDS = 0.5  # for those who waited behind us to get on
_pause = threading.Event()


@dataclass(frozen=True)
class Roles:
    """Names of the roles that get rights; an empty name means: nobody."""

    daemon: str = ""
    ckan_write: str = ""
    ckan_read: str = ""


@dataclass(frozen=True)
class InstallReport:
    """What `install` did. `failed` maps a resource id to why its table has no triggers yet, `unreadable` one to why the
    daemon's new role may not read it yet: installing again mends that."""

    notices: tuple[str, ...]
    roles: Roles
    """As they are now: those that were named, and for the others those that were named when it was installed before."""
    tables: int
    """DataStore tables in the database."""
    attached: int
    """Of them, how many were given triggers now."""
    failed: dict[str, str]
    unreadable: dict[str, str]


def migrations() -> list[str]:
    """Names of the migration files, in the order in which they run."""
    return sorted(path.name for path in (sql_directory() / "migrations").glob("*.sql"))


def install_script(roles: Roles, *, up_to: str | None = None) -> str:
    """The whole installation as one SQL script in one transaction, for `psql` and for `install` alike.

    `up_to` names the last migration to run and leaves out what comes after migrations: the schema as an older release
    had it, for tests of upgrades.
    """
    names = [name for name in migrations() if up_to is None or name <= up_to]
    pieces = [
        "-- Installs or upgrades the schema datastore_dumper. Safe to run again.",
        "BEGIN;",
        # Views are replaced under an exclusive lock, and whoever asks for a file would wait behind us.
        "SET LOCAL lock_timeout = '2s';",
        # A superuser may run this: nobody's functions or operators are to be found in place of Postgres' own.
        "SET LOCAL search_path = pg_catalog, pg_temp;",
        "SET LOCAL standard_conforming_strings = on;",
        *(
            _text(sql.SQL("SELECT set_config({}, {}, true);").format(f"datastore_dumper.{name}", value))
            for name, value in (
                ("daemon_role", roles.daemon),
                ("ckan_write_role", roles.ckan_write),
                ("ckan_read_role", roles.ckan_read),
            )
        ),
        read_sql("install/0_owner.sql"),
        _text(_refuse_newer(names)),
        "SET LOCAL client_min_messages = warning;",  # what a migration finds to be gone already is no news
        *(_text(_once(name, read_sql(f"migrations/{name}"))) for name in names),
        "SET LOCAL client_min_messages = DEFAULT;",
        *([] if up_to else _replaced_every_time()),
        "COMMIT;",
    ]
    return "\n\n".join(piece.strip() for piece in pieces) + "\n"


def _replaced_every_time() -> list[str]:
    return [
        *(read_sql(f"install/{name}") for name in _OWNED),
        _text(_note_functions()),
        "RESET ROLE;",
        read_sql("install/4_event_triggers.sql"),
        read_sql("install/5_schema_public.sql"),
    ]


def _note_functions() -> sql.Composed:
    """So that a program whose functions are others can tell."""
    return sql.SQL(
        "INSERT INTO datastore_dumper.setting (name, value) VALUES ('functions', {digest}) "
        "ON CONFLICT (name) DO UPDATE SET value = excluded.value;"
    ).format(digest=functions_digest())


def functions_digest() -> str:
    """What `install` notes of the functions, views and privileges that it puts in, hexadecimal."""
    return hashlib.sha256("".join(read_sql(f"install/{name}") for name in _OWNED).encode()).hexdigest()


def printed_script(roles: Roles) -> str:
    """`install_script` for psql: stops at the first error, and then gives every table its triggers, one at a time."""
    one_by_one = read_sql("psql/one_by_one.sql")
    attach, grant = _for_each("unattached_tables", "attach"), _for_each("unreadable_tables", "let_daemon_read")
    return f"\\set ON_ERROR_STOP on\n{install_script(roles)}\n{one_by_one}{attach}{grant}RESET search_path;\n"


def _for_each(tables: str, function: str) -> str:
    """For psql: call the function for each of the tables that a query finds."""
    found = query(tables).rstrip(";")
    return f"SELECT format('SELECT datastore_dumper.{function}(%s);', relid) FROM (\n{found}\n) AS t \\gexec\n"  # noqa: S608 - our own


def printed_uninstall_script() -> str:
    """`uninstall` for psql."""
    return f"{read_sql('psql/detach_all.sql')}\n{read_sql('uninstall.sql')}"


def _no_progress(done: int, total: int) -> None:
    """Nobody watches."""


def install(database: Database, roles: Roles, *, progress: Callable[[int, int], None] = _no_progress) -> InstallReport:
    """Install or upgrade, then give every DataStore table its triggers. `progress` gets (tables done, tables in all).

    Raises `DumperError` and changes nothing if the script fails. A table whose lock is not to be had is reported, not
    waited for: the daemon's reconciler attaches it later.
    """
    notices: list[str] = []
    with _installer_errors(), database.connect("install") as connection:
        require_release(connection)
        connection.add_notice_handler(lambda diagnostic: notices.append(diagnostic.message_primary or ""))
        connection.execute(install_script(roles).encode())
        attached, failed = attach_missing(connection, progress)
        unreadable = _let_daemon_read(connection)
        stored = connection.execute(query("stored_roles")).fetchone()
        (tables,) = connection.execute(query("count_tables")).fetchone() or (0,)
    assert stored is not None, "one row"
    ours = tuple(notice for notice in notices if "datastore_dumper" in notice)
    return InstallReport(ours, Roles(*stored), tables, attached, failed, unreadable)


def attach_missing(
    connection: Connection, progress: Callable[[int, int], None] = _no_progress
) -> tuple[int, dict[str, str]]:
    """Create or mend the triggers of every table that lacks them: how many were, and which could not be and why."""

    def attach(relid: int) -> None:
        failpoint("before_attach")
        connection.execute(query("attach"), {"relid": relid})
        failpoint("after_attach")

    return _one_by_one(connection, query("unattached_tables"), attach, progress)


def _let_daemon_read(connection: Connection) -> dict[str, str]:
    """Grant a role that is the daemon's since now what attach() granted to the one before. What could not be, and why."""
    _, failed = _one_by_one(
        connection,
        query("unreadable_tables"),
        lambda relid: connection.execute(query("let_daemon_read"), {"relid": relid}),
        _no_progress,
    )
    return failed


def _one_by_one(
    connection: Connection, tables: str, act: Callable[[int], object], progress: Callable[[int, int], None]
) -> tuple[int, dict[str, str]]:
    """Act on each of the tables that a query finds: how many were done, and which could not be and why.

    A table that is busy is tried again after the others, a few times: who waits for a lock keeps all others waiting, so each
    try is short (the functions have the limit) and they are apart.
    """
    missing: dict[int, str] = dict(connection.execute(tables.encode()).fetchall())
    total = len(missing)
    done = 0
    failed: dict[str, str] = {}
    for round_ in range(_ATTACH_ROUNDS):
        if round_:
            _pause.wait(_ATTACH_PAUSE_SECONDS * (0.5 + random.random()))  # noqa: S311 - jitter
        busy = {}
        for relid, resource_id in missing.items():
            progress(done, total)
            try:
                act(relid)
                done += 1
                failed.pop(resource_id, None)
            except errors.LockNotAvailable as error:
                busy[relid] = resource_id
                failed[resource_id] = _reason(error)
            except psycopg.Error as error:
                if connection.closed:
                    raise
                failed[resource_id] = _reason(error)
        missing = busy
        if not busy:
            break
    progress(total, total)
    return done, failed


def uninstall(database: Database) -> tuple[str, ...]:
    """Remove triggers, schema, event triggers, grants and our own role. Returns the server's notices."""
    notices: list[str] = []
    with _installer_errors(), database.connect("uninstall") as connection:
        connection.add_notice_handler(lambda diagnostic: notices.append(diagnostic.message_primary or ""))
        if connection.execute(query("schema_exists")).fetchone() is not None:
            for (relid,) in connection.execute(query("attached_tables")).fetchall():
                connection.execute(query("detach"), {"relid": relid})
        connection.execute(read_sql("uninstall.sql").encode())
    return tuple(notice for notice in notices if "datastore_dumper" in notice)


def require_installed(connection: Connection) -> None:
    """Raise `DumperError` unless the schema is there and as new as this program."""
    require_release(connection)
    with database_errors():
        applied = {name for (name,) in connection.execute(query("applied_migrations")).fetchall()}
    wanted = set(migrations())
    if wanted - applied:
        raise DumperError(
            f"The schema datastore_dumper lacks {', '.join(sorted(wanted - applied))}",
            hint="Run `datastore-dumper install`.",
        )
    if applied - wanted:
        raise DumperError(
            f"The schema datastore_dumper is newer than this program: it has {', '.join(sorted(applied - wanted))}",
            hint="Install the newer release of ckanext-datastore-dumper here too.",
        )


@contextmanager
def _installer_errors() -> Iterator[None]:
    """`database_errors`, and what somebody who installs can do about a lock that is held and a right that is missing."""
    try:
        with database_errors():
            try:
                yield
            except errors.LockNotAvailable as error:
                raise UnavailableError(
                    f"Somebody is using what must be replaced: {_reason(error)}",
                    hint="Stop the daemon or wait until its exports are done, and run it again; that is safe at any point.",
                ) from error
    except PermissionDeniedError as error:
        raise PermissionDeniedError(
            error.message,
            hint="Connect with --dsn as a superuser or as whoever installed it first: on a managed service, CKAN's write role.",
        ) from error


def _once(name: str, text: str) -> sql.Composed:
    """A migration that runs only where it has not run; one that was altered since is refused."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    return sql.SQL(
        "DO $migrate$ BEGIN "
        "IF NOT EXISTS (SELECT FROM datastore_dumper.migration WHERE id = {name}) THEN "
        "EXECUTE {text}; INSERT INTO datastore_dumper.migration (id, sha256) VALUES ({name}, {digest}); "
        "ELSIF NOT EXISTS (SELECT FROM datastore_dumper.migration WHERE id = {name} AND sha256 = {digest}) THEN "
        "RAISE EXCEPTION 'migration % was altered after it had been applied', {name}; "
        "END IF; END $migrate$;"
    ).format(name=name, text=text, digest=digest)


def _refuse_newer(names: list[str]) -> sql.Composed:
    return sql.SQL(
        "DO $newer$ BEGIN "
        "IF EXISTS (SELECT FROM datastore_dumper.migration WHERE id <> ALL ({names}::text[])) THEN "
        "RAISE EXCEPTION 'the schema datastore_dumper was installed by a newer release' "
        "USING HINT = 'Install with that release or a later one.'; "
        "END IF; END $newer$;"
    ).format(names=names)


def _text(composed: sql.Composed) -> str:
    return composed.as_string(None)


def _reason(error: psycopg.Error) -> str:
    return error.diag.message_primary or str(error)
