"""Checks of the server: can it be reached, is it the primary, is it set as we need it, do notifications and clocks agree."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from datetime import datetime, timezone

from datastore_dumper.checks.results import Result, Subject, failed, of_error, ok, warning
from datastore_dumper.config.model import Config
from datastore_dumper.database import OLDEST_MAJOR, Connection, Database
from datastore_dumper.errors import EXIT_CONFIG, EXIT_UNAVAILABLE, DumperError
from datastore_dumper.sqlfiles import query

NEWEST_MAJOR = 18  # that we have tried

_SKEW_SECONDS = 5.0
"""Nothing is decided by this machine's clock against the database's, so this is about logs that can be read together."""
_NOTIFY_SECONDS = 5.0
_SIDE_CONNECTIONS = 5  # of a daemon: listen, renew leases, look, keep house, watchdog
_THREAD_CONNECTIONS = 3  # of each table being exported: control, holder, segment
_PROCESS_CONNECTIONS = 2  # of each worker process: segment, witness
_POLL_SECONDS = 0.05


def server(subject: Subject, connection: Connection) -> Iterator[Result]:
    """Version, recovery and encoding."""
    row = connection.execute(query("check_server")).fetchone()
    assert row is not None, "one row"
    version, shown, in_recovery, role, database, encoding = row
    yield ok("database.connection", f'connected as "{role}" to database "{database}"')
    yield _role(role, subject.config.roles.daemon)
    pooled = (
        "it pools transactions: each of ours brings its own settings"
        if connection.pooled
        else "none that pools transactions"
    )
    yield ok("database.pooler", pooled)
    yield release(version // 10000, shown)
    if in_recovery:
        mend = "Point database.dsn at the primary; a standby goes into database.replica_dsn."
        yield failed("database.primary", "database.dsn leads to a standby", mend, EXIT_CONFIG)
    else:
        yield ok("database.primary", "it is the primary")
    if encoding != "UTF8":
        mend = "CKAN wants UTF8: make the database anew with ENCODING 'UTF8'."
        yield warning("database.encoding", f"the encoding is {encoding}", mend)
    else:
        yield ok("database.encoding", encoding)


def _role(connected: str, named: str | None) -> Result:
    """Whether who connects is who is said to: by roles.daemon, `install` grants rights."""
    if named in (None, connected):
        return ok("database.role", f'"{connected}"')
    mend = f'Set roles.daemon to "{connected}" and run `datastore-dumper install`, or connect as "{named}".'
    return warning("database.role", f'roles.daemon is "{named}", but database.dsn connects as "{connected}"', mend)


def release(major: int, shown: str) -> Result:
    """Whether this release of Postgres is one that works."""
    if major < OLDEST_MAJOR:
        mend = f"Upgrade it: {OLDEST_MAJOR} is the oldest that works."
        return failed("database.version", f"PostgreSQL {shown}", mend, EXIT_CONFIG)
    if major > NEWEST_MAJOR:
        mend = f"It is newer than {NEWEST_MAJOR}, the newest we tried."
        return warning("database.version", f"PostgreSQL {shown}", mend)
    return ok("database.version", f"PostgreSQL {shown}")


def settings(subject: Subject, connection: Connection) -> Iterator[Result]:
    """Settings of the server, of the database or of our role that would get in the way."""
    found: dict[str, str] = dict(connection.execute(query("check_settings")).fetchall())
    notify_is_off = connection.execute(query("check_notify_off")).fetchone() == (True,)
    if found["track_activities"] != "on":
        yield warning(
            "database.track_activities",
            "it is off, so exports cannot be told to give way to TRUNCATE and ALTER",
            "Set track_activities = on, at least for our role: ALTER ROLE ... SET track_activities = on (a superuser may).",
        )
    if found.get("event_triggers", "on") != "on":
        yield warning(
            "database.event_triggers",
            "it is off: no event trigger fires",
            "Set event_triggers = on in postgresql.conf.",
        )
    if found.get("old_snapshot_threshold", "-1") != "-1":
        yield warning(
            "database.old_snapshot_threshold",
            f"it is {found['old_snapshot_threshold']} min: exports that take longer fail",
            "Set old_snapshot_threshold = -1 in postgresql.conf.",
        )
    if found["max_prepared_transactions"] != "0" and not notify_is_off:
        yield warning(
            "database.notify",
            "max_prepared_transactions is over 0, and PREPARE TRANSACTION fails after a NOTIFY of our triggers",
            "If anybody uses two-phase commit here: ALTER DATABASE ... SET datastore_dumper.notify = off.",
        )
    else:
        how = "off, by datastore_dumper.notify: the daemon looks by itself" if notify_is_off else "on"
        yield ok("database.notify", f"notifications are {how}")


def connections(subject: Subject, connection: Connection) -> Iterator[Result]:
    """Room for the connections of one daemon."""
    row = connection.execute(query("check_connections")).fetchone()
    assert row is not None, "one row"
    left, ours = row
    wanted = connections_of(subject.config)
    if left is not None and left < wanted - ours:
        yield warning(
            "database.connections",
            f"{left} more are allowed, and a daemon opens up to {wanted}",
            "Raise max_connections (or the role's or database's CONNECTION LIMIT), or lower export.concurrency and "
            "export.workers.",
        )
    else:
        yield ok("database.connections", f"{left} more are allowed; a daemon opens up to {wanted}")


def connections_of(config: Config) -> int:
    """The most that one daemon opens to the primary."""
    export = config.export
    return _SIDE_CONNECTIONS + _THREAD_CONNECTIONS * export.concurrency + _PROCESS_CONNECTIONS * export.workers


def clock(subject: Subject, connection: Connection) -> Iterator[Result]:
    """Skew of this machine's clock to the server's."""
    before = datetime.now(timezone.utc)
    row = connection.execute(query("check_clock")).fetchone()
    after = datetime.now(timezone.utc)
    assert row is not None, "one row"
    yield skew("database.clock", row[0], before, after, "Postgres")


def skew(
    name: str, theirs: datetime, before: datetime, after: datetime, server: str, tolerance: float = _SKEW_SECONDS
) -> Result:
    """How far `theirs` is from our clock, which was read before and after it."""
    seconds = max((before - theirs).total_seconds(), (theirs - after).total_seconds(), 0.0)
    if seconds > tolerance:
        return warning(
            name, f"the clocks of {server} and of this machine differ by {seconds:.0f} s", "Let NTP set both."
        )
    return ok(name, f"{server} and this machine differ by less than {max(seconds, 1):.0f} s")


def notifications(subject: Subject, connection: Connection) -> Iterator[Result]:
    """A NOTIFY of one session must reach another that listens; behind some poolers it does not."""
    word = secrets.token_hex(8)
    connection.execute(query("check_listen"))
    with subject.database.connect("check") as sender:
        sender.execute(query("check_notify"), {"word": word})
    # Others may check at the same time.
    if any(each.payload == word for each in connection.notifies(timeout=_NOTIFY_SECONDS)):
        yield ok("database.listen", "notifications arrive")
    else:
        yield warning(
            "database.listen",
            f"a notification did not arrive within {_NOTIFY_SECONDS:g} s",
            "LISTEN needs a session of its own: lead database.dsn past the pooler, or let it pool sessions. Until then the "
            f"daemon looks every {subject.config.look.interval_seconds:g} s (look.interval_seconds) instead.",
        )


def standby(subject: Subject) -> Iterator[Result]:
    """The standby that exports read, if there is one."""
    dsn = subject.config.database.replica_dsn
    if dsn is None:
        return
    try:
        connection = Database(dsn.get_secret_value(), subject.database.connect_timeout_seconds).connect("check")
    except DumperError as error:
        mend = f"{error.hint.replace('database.dsn', 'database.replica_dsn')} Exports read the primary meanwhile."
        yield warning("standby.connection", error.message, mend)
        return
    with connection, subject.database.connect("check") as primary:
        in_recovery, feedback = connection.execute(query("check_standby")).fetchone() or (False, False)
        system = query("system_identifier")
        if not in_recovery:
            mend = "Point database.replica_dsn at a standby, or remove it."
            yield failed("standby.connection", "database.replica_dsn leads to no standby", mend, EXIT_CONFIG)
            return
        if connection.execute(system).fetchone() != primary.execute(system).fetchone():
            mend = "Point database.replica_dsn at a standby of database.dsn's server."
            yield failed("standby.connection", "it is a standby of another cluster", mend, EXIT_CONFIG)
            return
        yield ok("standby.connection", "connected to a standby of the primary")
        yield _lag(connection, primary, subject.config.database.replica_wait_seconds)
        if feedback:
            yield ok("standby.feedback", "hot_standby_feedback is on")
        else:
            mend = "Set hot_standby_feedback = on on the standby, or a high max_standby_streaming_delay."
            yield warning("standby.feedback", "hot_standby_feedback is off: replay may cancel long exports", mend)


def _lag(standby: Connection, primary: Connection, patience_seconds: float) -> Result:
    """Whether it comes to where the primary is now, as an export waits for it. That it has replayed all that it received
    says nothing: it may receive nothing any more."""
    (position,) = primary.execute(query("check_position")).fetchone() or (None,)
    started = time.monotonic()
    while True:
        row = standby.execute(query("check_behind"), {"position": position}).fetchone()
        assert row is not None, "one row"
        behind_bytes, replayed_at = row
        seconds = time.monotonic() - started
        if behind_bytes <= 0:
            return ok("standby.lag", f"it caught up with the primary within {max(seconds, 0.1):.1f} s")
        if seconds >= patience_seconds:
            break
        # A sleep: Postgres 14 to 18 have nothing to wait on until a standby has come to a position.
        time.sleep(_POLL_SECONDS)
    since = (
        ""
        if replayed_at is None
        else f"; the last transaction that it replayed is of {replayed_at:%Y-%m-%d %H:%M:%S %Z}"
    )
    mend = (
        "Look at its replication (pg_stat_replication on the primary), or raise database.replica_wait_seconds. Exports read "
        "the primary meanwhile."
    )
    found = f"it is {behind_bytes:,} bytes of WAL behind the primary after {patience_seconds:g} s{since}"
    return failed("standby.lag", found, mend, EXIT_UNAVAILABLE)


def unreachable(error: DumperError) -> Result:
    """In place of all that a connection is needed for."""
    return of_error("database.connection", error)
