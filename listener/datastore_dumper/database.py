"""Connections to Postgres: opening them with settings that suit long exports, and telling their errors apart.

Everything here is about connections in general; what is asked over them is in `sql/queries/`.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import Cursor, IsolationLevel, conninfo, errors, pq, waiting
from psycopg.abc import RV, Params, PQGen
from psycopg.rows import TupleRow

from datastore_dumper.errors import ConfigError, DumperError, PermissionDeniedError, UnavailableError
from datastore_dumper.sqlfiles import query

# A peer that vanished without a word is noticed within a minute (PostgreSQL: libpq connection parameters).
_KEEPALIVE = {
    "keepalives": "1",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}

_TRANSACTION_TIMEOUT_VERSION = 170000
OLDEST_MAJOR = 14
"""The oldest release of Postgres that works: triggers are replaced (CREATE OR REPLACE TRIGGER), waiters tell since when."""

# Statements are prepared where `execute` is told to: questions to the catalogs that come with every export, whose planning takes
# longer than the answer. Of our own tables no plan is kept, for they may grow. A pooler's sessions are not ours to prepare.
_IF_ASKED = sys.maxsize

_SILENCE_SECONDS = 300
"""Longer than any statement of ours takes. COPY has a deadline of its own (`export`)."""


class Connection(psycopg.Connection[TupleRow]):
    """Autocommit. Two things are not as in psycopg:

    It gives up on a peer that accepts and never answers (a frozen server, a proxy that forwards nothing): TCP is content with
    it, a thread would wait for ever, and the lease of its export would be renewed for ever.

    Behind a pooler each transaction may run in another session of the server. Settings of a session would be lost there, and
    stay behind for somebody else; so each transaction begins with them, single statements too.
    """

    pooled = False

    def begin(self, statement: str) -> None:
        """BEGIN with characteristics, for transactions that are not a block."""
        super().execute(statement.encode())
        self._set_transaction()

    @contextmanager
    def transaction(
        self, savepoint_name: str | None = None, force_rollback: bool = False
    ) -> Iterator[psycopg.Transaction]:
        outermost = self._is_idle()
        with super().transaction(savepoint_name, force_rollback) as transaction:
            if outermost:
                self._set_transaction()
            yield transaction

    def execute(self, query: Any, params: Params | None = None, **options: Any) -> Cursor[TupleRow]:
        if not self.pooled or not self._is_idle():
            return super().execute(query, params, **options)
        with self.transaction():
            return super().execute(query, params, **options)

    def _is_idle(self) -> bool:
        return self.info.transaction_status == pq.TransactionStatus.IDLE

    def _set_transaction(self) -> None:
        if self.pooled:
            super().execute(query("transaction_settings"))
            if self.info.server_version >= _TRANSACTION_TIMEOUT_VERSION:
                super().execute(query("transaction_timeout"))

    def wait(self, gen: PQGen[RV], *args: Any, **kwargs: Any) -> RV:
        return super().wait(self._limited(gen), *args, **kwargs)

    def _limited(self, gen: PQGen[RV]) -> PQGen[RV]:
        deadline = time.monotonic() + _SILENCE_SECONDS
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if ready == waiting.Ready.NONE and time.monotonic() > deadline:
                    self.close()
                    raise psycopg.OperationalError(f"Postgres did not answer for {_SILENCE_SECONDS} s")
                wanted = gen.send(ready)
        except StopIteration as end:
            result: RV = end.value
            return result


def require_release(connection: psycopg.Connection[TupleRow]) -> None:
    """Raise `ConfigError` if this release of Postgres is too old for us."""
    version = connection.info.server_version
    if version < OLDEST_MAJOR * 10000:
        raise ConfigError(
            f"The server is PostgreSQL {version // 10000}, and {OLDEST_MAJOR} is the oldest that works",
            hint="Upgrade it, or lead database.dsn to another server.",
        )


@dataclass(frozen=True)
class Database:
    """Where the DataStore is and how long to wait for it. The DSN is a secret: it is not shown."""

    dsn: str
    connect_timeout_seconds: int = 10

    def __repr__(self) -> str:
        return "Database(...)"

    def connect(self, purpose: str) -> Connection:
        """A new autocommit connection named `datastore-dumper <purpose>` in pg_stat_activity.

        What the role or the database has set that would get in our way is overruled for the connection: time limits (an export
        takes what it takes, and a listener is idle by nature), read-only or serializable transactions, other notations.
        Raises `ConfigError`, `PermissionDeniedError` or `UnavailableError`.
        """
        with database_errors():
            try:
                if splits_password(self.dsn):
                    raise ConfigError(
                        "The connection string has more than one @, or one after a /",
                        hint="In a password, write %40 for @, %2F for /, %25 for % and %20 for a space.",
                    )
                parameters = conninfo.make_conninfo(
                    self.dsn,
                    **{
                        **_KEEPALIVE,
                        "connect_timeout": str(self.connect_timeout_seconds),
                        "application_name": f"datastore-dumper {purpose}",
                        "client_encoding": "UTF8",
                    },
                )
            except psycopg.ProgrammingError:
                # libpq's message repeats part of the string, which may be the password.
                raise ConfigError(
                    "database.dsn is not a connection string",
                    hint="Write a URI (postgresql://user@host/datastore) or keywords (host=... dbname=...).",
                ) from None
            connection = Connection.connect(parameters, autocommit=True, prepare_threshold=None)
            try:
                connection.pooled = _is_pooled(connection)
                if connection.pooled:
                    connection.isolation_level = IsolationLevel.READ_COMMITTED
                    connection.read_only = connection.deferrable = False
                else:
                    connection.execute(query("session_settings"))
                    connection.prepare_threshold = _IF_ASKED
            except BaseException:
                connection.close()
                raise
            return connection


def splits_password(dsn: str) -> bool:
    """Whether libpq would take the end of a password for a host or a database, because of an @ or a / in it that is not escaped
    (PostgreSQL: "Connection URIs"); its errors show both. Raises `psycopg.ProgrammingError` if it is no connection string."""
    found = conninfo.conninfo_to_dict(dsn)
    uri = re.match(r"postgres(?:ql)?://[^/?]*/([^?]*)", dsn)
    hosts = str(found.get("host", "")).split(",")
    return any("@" in host[1:] for host in hosts) or (uri is not None and "@" in uri[1])  # @name is an abstract socket


def _is_pooled(connection: Connection) -> bool:
    """A pooler makes up the process id that cancelling goes by, for it serves a client with several sessions."""
    return connection.execute(query("backend_pid")).fetchone() != (connection.info.backend_pid,)


@contextmanager
def database_errors() -> Iterator[None]:
    """Turn what the driver raises into our errors: what the operator can mend, and what may pass by itself."""
    try:
        yield
    except psycopg.Error as error:
        raise explain(error) from error


def explain(error: psycopg.Error) -> DumperError:
    """The error of ours that says what can be done about one of the driver's."""
    text = _first_line(error)
    if error.sqlstate is None and isinstance(error, psycopg.OperationalError):
        return _explain_connecting(text)
    hint = error.diag.message_hint or ""
    if isinstance(error, errors.InvalidSchemaName | errors.UndefinedTable | errors.UndefinedFunction):
        if "datastore_dumper" in text:
            return ConfigError(
                f"The DataStore database does not have our tables and functions: {text}",
                hint="Run `datastore-dumper install` (or `install --print` for a DBA) on the database of database.dsn.",
            )
        return DumperError(f"Postgres: {text}", hint=hint)
    if isinstance(error, errors.InsufficientPrivilege):
        return PermissionDeniedError(
            f"Postgres refuses: {text}",
            hint=hint
            or "Run `datastore-dumper install` with roles.daemon set to database.dsn's role: it grants the rights.",
        )
    if _is_of_standby(error, text):
        return takes_no_writes(text)
    if isinstance(error, errors.UndefinedObject):
        return ConfigError(f"Postgres: {text}", hint=hint)
    if isinstance(error, psycopg.OperationalError):
        return UnavailableError(f"Postgres: {text}", hint=hint)
    return DumperError(f"Postgres: {text}", hint=hint)


def takes_no_writes(reason: str) -> UnavailableError:
    """What may pass: a standby is promoted, a name leads to another server."""
    return UnavailableError(
        f"The server of database.dsn takes no writes: {reason}",
        hint="Point database.dsn at the primary (of several hosts, target_session_attrs=read-write finds it); a standby goes "
        "into database.replica_dsn.",
    )


def _is_of_standby(error: psycopg.Error, text: str) -> bool:
    """Writes and LISTEN there have a code of their own (25006); the others share theirs (READ WRITE, functions for positions)."""
    return isinstance(error, errors.ReadOnlySqlTransaction) or (
        isinstance(error, errors.FeatureNotSupported | errors.ObjectNotInPrerequisiteState)
        and ("during recovery" in text or "recovery is in progress" in text)
    )


def _explain_connecting(text: str) -> DumperError:
    """libpq gives no SQLSTATE while connecting, only words."""
    if "authentication failed" in text or "no password supplied" in text or "no pg_hba.conf entry" in text:
        return PermissionDeniedError(
            f"Postgres does not let us in: {text}",
            hint="Check the user and password of database.dsn (or ~/.pgpass), and pg_hba.conf.",
        )
    if "permission denied for database" in text:
        return PermissionDeniedError(
            f"Postgres does not let us in: {text}", hint="GRANT CONNECT ON DATABASE to the role of database.dsn."
        )
    if "too many connections" in text or "remaining connection slots" in text:
        return UnavailableError(
            f"Postgres: {text}",
            hint="Raise the limit (ALTER ROLE ... CONNECTION LIMIT, max_connections), or lower export.concurrency and "
            "export.workers.",
        )
    if "does not exist" in text:
        return ConfigError(f"Postgres: {text}", hint="Check the database and user names in database.dsn.")
    return UnavailableError(
        f"Postgres cannot be reached: {text}", hint="Check host and port in database.dsn, and that the server runs."
    )


def _first_line(error: psycopg.Error) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
