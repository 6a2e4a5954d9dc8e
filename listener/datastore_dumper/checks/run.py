"""The list of all checks, in their order: from the ground up, so that the first one that fails is why others would."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from datastore_dumper.checks import ckan, files, monitor, postgres, schema, storage
from datastore_dumper.checks.results import Result, Subject, of_error
from datastore_dumper.database import Connection, database_errors
from datastore_dumper.deadline import Deadline
from datastore_dumper.errors import DumperError

_QUERY_SECONDS = 60  # for all of one check

Check = Callable[[Subject], Iterator[Result]]
ConnectedCheck = Callable[[Subject, Connection], Iterator[Result]]

# Each with the name of its first result, for errors that it did not foresee.
CONFIG: tuple[tuple[str, Check], ...] = (("config.secrets", files.secrets),)
DATABASE: tuple[tuple[str, ConnectedCheck], ...] = (
    ("database.connection", postgres.server),
    ("database.notify", postgres.settings),
    ("database.connections", postgres.connections),
    ("database.listen", postgres.notifications),
    ("database.clock", postgres.clock),
    ("schema.version", schema.installed),
)
SCHEMA: tuple[tuple[str, ConnectedCheck], ...] = (
    ("schema.privileges", schema.privileges),
    ("schema.event_triggers", schema.event_triggers),
    ("tables.readable", schema.tables),
    ("daemon.running", schema.work),
    ("storage.owner", storage.owner),
)
"""They need the schema."""
OTHERS: tuple[tuple[str, Check], ...] = (
    ("standby.connection", postgres.standby),
    ("spool.directory", storage.spool),
    ("storage.round_trip", storage.round_trip),
    ("daemon.health", monitor.health),
    ("ckan.release", ckan.release),
)


def run_checks(subject: Subject) -> Iterator[Result]:
    """All results, each as soon as it is there. A check that cannot be made because of another that failed is left out."""
    for name, check in CONFIG:
        yield from _run(name, check(subject))
    try:
        connection = subject.database.connect("check")
    except DumperError as error:
        yield postgres.unreachable(error)
    else:
        with connection:
            yield from _connected(subject, connection)
    for name, check in OTHERS:
        yield from _run(name, check(subject))


def _connected(subject: Subject, connection: Connection) -> Iterator[Result]:
    installed = True
    for name, check in DATABASE:
        for result in _run(name, _in_time(check, subject, connection)):
            installed = installed and not (result.name == "schema.version" and result.status == "failed")
            yield result
    if installed:
        for name, check in SCHEMA:
            yield from _run(name, _in_time(check, subject, connection))


def _in_time(check: ConnectedCheck, subject: Subject, connection: Connection) -> Iterator[Result]:
    with Deadline(connection, _QUERY_SECONDS):
        yield from check(subject, connection)


def _run(name: str, results: Iterator[Result]) -> Iterator[Result]:
    """An error that the check did not foresee is its result."""
    try:
        with database_errors():
            yield from results
    except DumperError as error:
        yield of_error(name, error)
