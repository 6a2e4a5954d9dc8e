"""Checks of what `install` put into the database: schema, privileges, triggers; and of how far the daemon is with its work."""

from __future__ import annotations

from collections.abc import Iterator

from datastore_dumper.checks.results import Result, Subject, failed, of_error, ok, some, warning
from datastore_dumper.database import Connection
from datastore_dumper.errors import EXIT_CONFIG, EXIT_NO_PERMISSION, EXIT_UNAVAILABLE, DumperError
from datastore_dumper.install import functions_digest, migrations, require_installed
from datastore_dumper.sqlfiles import query
from datastore_dumper.status import daemons
from datastore_dumper.words import counted

_INSTALL = "Run `datastore-dumper install` again, with roles.daemon set to database.dsn's role."
_EVENT_TRIGGERS = {"datastore_dumper_ddl", "datastore_dumper_drop"}
_ALWAYS = "A"  # pg_event_trigger.evtenabled

# How much older than debounce.max_delay_seconds a change may be: exports take their time, and may wait for one another.
_PATIENCE_SECONDS = 600.0


def installed(subject: Subject, connection: Connection) -> Iterator[Result]:
    """The schema, as new as this program."""
    try:
        require_installed(connection)
    except DumperError as error:
        yield of_error("schema.version", error)
        return
    yield ok("schema.version", f"installed, up to {migrations()[-1]}")
    if connection.execute(query("check_functions")).fetchone() == (functions_digest(),):
        yield ok("schema.functions", "functions and privileges are those of this release")
    else:
        mend = "Run `datastore-dumper install` again: it belongs to every upgrade."
        yield warning("schema.functions", "functions and privileges are those of another release", mend)


def privileges(subject: Subject, connection: Connection) -> Iterator[Result]:
    """Of the daemon's role and of CKAN's read role."""
    missing = [text for (text,) in connection.execute(query("check_privileges"))]
    if missing:
        found = f"the daemon's role lacks {some(missing)}"
        yield failed("schema.privileges", found, _INSTALL, EXIT_NO_PERMISSION)
    else:
        yield ok("schema.privileges", "the daemon's role has all it needs")
    reader = subject.config.roles.ckan_read
    if reader is None:
        yield warning(
            "schema.reader",
            "roles.ckan_read is not set, so it is unknown whether CKAN can look files up",
            "Set it to the role in ckan.datastore.read_url: exports take over its settings, too.",
        )
        return
    exists, lacking = connection.execute(query("check_reader"), {"role": reader}).fetchone() or (False, None)
    if not exists:
        mend = "Set roles.ckan_read to the role in ckan.datastore.read_url."
        yield failed("schema.reader", f'there is no role "{reader}" (roles.ckan_read)', mend, EXIT_CONFIG)
    elif lacking:
        mend = f"Run `datastore-dumper install --ckan-read-role {reader}` again."
        yield failed("schema.reader", f'CKAN\'s read role "{reader}" lacks {lacking}', mend, EXIT_NO_PERMISSION)
    else:
        yield ok("schema.reader", f'CKAN\'s read role "{reader}" can look files up')


def tables(subject: Subject, connection: Connection) -> Iterator[Result]:
    """Each DataStore table: readable, of an owner that triggers can be made for, and with sound triggers."""
    found = connection.execute(query("check_tables")).fetchall()
    unreadable, foreign, unsound = ([row[0] for row in found if row[column]] for column in (1, 2, 3))
    if not found:
        mend = "Is database.dsn the database of ckan.datastore.write_url?"
        yield warning("tables.readable", "this database has no DataStore tables", mend)
        return
    if unreadable:
        mend = f"Their owners must GRANT SELECT to the daemon's role. {_INSTALL}"
        yield failed(
            "tables.readable",
            f"{_count(unreadable, found)} cannot be read: {some(unreadable)}",
            mend,
            EXIT_NO_PERMISSION,
        )
    else:
        yield ok("tables.readable", f"of {counted(len(found), 'DataStore table')}, all can be read")
    if foreign:
        owners = sorted({row[4] for row in found if row[2]})
        mend = (
            f"If CKAN writes as {some(owners)}, run `datastore-dumper install --ckan-write-role` with that. If not, give them "
            "to the role that it writes as (ALTER TABLE ... OWNER TO). Until then they get no triggers and no files."
        )
        yield failed(
            "tables.owners",
            f"{_count(foreign, found)} belong to {some(owners)}, whose triggers we cannot make: {some(foreign)}",
            mend,
            EXIT_NO_PERMISSION,
        )
    else:
        yield ok("tables.owners", "all belong to roles that we can make triggers for")
    if unsound:
        mend = (
            "A running daemon mends them within look.reconcile_interval_seconds, and `datastore-dumper install` does. If "
            "they stay so, somebody holds a lock or drops them."
        )
        yield warning("tables.triggers", f"{_count(unsound, found)} lack sound triggers: {some(unsound)}", mend)
    else:
        yield ok("tables.triggers", "all four triggers are sound on each of them")
    left = [name for (name,) in connection.execute(query("check_left_to_ckan"))]
    if left:
        why = "row security, inheritance, unlogged, a subscription or an unusual _id"
        yield ok("tables.left_to_ckan", f"{len(left)} get no files, for {why}: {some(left)}")


def _count(names: list[str], of: list[tuple[object, ...]]) -> str:
    return f"{len(names)} of {counted(len(of), 'DataStore table')}"


def event_triggers(subject: Subject, connection: Connection) -> Iterator[Result]:
    """Optional: they take a superuser to make."""
    found: dict[str, str] = dict(connection.execute(query("check_event_triggers")).fetchall())
    interval = f"{subject.config.look.reconcile_interval_seconds:g} s"
    if not found:
        yield ok("schema.event_triggers", f"none: new and altered tables are noticed within {interval}")
    elif set(found) == _EVENT_TRIGGERS and set(found.values()) == {_ALWAYS}:
        yield ok("schema.event_triggers", "new and altered tables are noticed at once")
    else:
        mend = f"Run `datastore-dumper install` again as a superuser; until then, new tables are noticed within {interval}."
        yield warning("schema.event_triggers", "not both of them are there and enabled always", mend)


def work(subject: Subject, connection: Connection) -> Iterator[Result]:
    """Whether a daemon is there, keeps up, and fails at nothing."""
    connected = daemons(connection)
    if connected is None:
        yield ok("daemon.running", "not known: a pooler hides who is connected")
    elif connected:
        yield ok("daemon.running", f"{connected} connected")
    else:
        mend = "Start one: `datastore-dumper run`, or systemctl start datastore-dumper."
        yield warning("daemon.running", "no daemon is connected: files are handed out until their tables change", mend)
    oldest, failing, error = connection.execute(query("check_work")).fetchone() or (None, [], None)
    limit = subject.config.debounce.max_delay_seconds + _PATIENCE_SECONDS
    if oldest is not None and oldest > limit:
        mend = "See daemon.running, tables.failing and `datastore-dumper status`; raise export.concurrency if it is only slow."
        yield failed(
            "daemon.backlog", f"a change has waited for {oldest:.0f} s, more than {limit:.0f}", mend, EXIT_UNAVAILABLE
        )
    else:
        waiting = "no change waits" if oldest is None else f"the oldest change has waited for {oldest:.0f} s"
        yield ok("daemon.backlog", waiting)
    if failing:
        found = f"the last export of {len(failing)} failed: {some(failing)}. First: {error}"
        yield warning(
            "tables.failing", found, "The daemon tries again by itself; `datastore-dumper status` has every error."
        )
    else:
        yield ok("tables.failing", "no table's last export failed")
