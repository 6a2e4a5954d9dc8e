"""The state machine: writers with several transactions open, somebody who tampers with triggers, two daemons.

Real Postgres, real storage, the daemon's real parts. What must hold is checked after every step (`witness`), and once more
when all is quiet.
"""

from __future__ import annotations

import secrets
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from psycopg import sql

from datastore_dumper.choice import FormatRule, Selection
from datastore_dumper.install import install
from datastore_dumper.processes import SegmentProcesses
from datastore_dumper.storage.base import Storage
from datastore_dumper.watchdog import watch
from tests.machine.stepping import FORMATS, SteppedDaemon, stepping
from tests.machine.witness import Witness
from tests.machine.writers import Writer
from tests.support.converged import collect_all, left_in_database, not_fresh, orphans
from tests.support.datastore import create_table, prepare_datastore
from tests.support.installation import ROLES, handle
from tests.support.postgres import PostgresServer, ScratchDatabase

TABLES = ("t", 'u "%s"')
SPARE = "v"  # a name that only RENAME gives
NAMES = (*TABLES, SPARE)
WRITERS = 3
BUCKETS = 6
_QUIET_ROUNDS = 30

HALTS = (
    "after_claim", "before_snapshot", "after_snapshot", "before_segment", "within_segment", "after_segment",
    "before_announce", "after_announce", "before_part", "after_part", "before_complete", "after_complete",
    "before_publish", "within_publish", "after_publish",
)  # fmt: skip
TRIGGERS = tuple(f"datastore_dumper_{event}" for event in ("insert", "update", "delete", "truncate"))

# Which tables get files. The first is what all ends with.
SELECTIONS = (
    Selection(FORMATS),
    Selection(FORMATS, exclude=(TABLES[0],)),
    Selection(FORMATS, on_demand=True),
    Selection(FORMATS, min_rows=4),
    Selection(FORMATS, rules=(FormatRule(TABLES[0], FORMATS[:1]),)),
)

tables = st.sampled_from(TABLES)
names = st.sampled_from(NAMES)
writers = st.integers(0, WRITERS - 1)
daemons = st.integers(0, 1)
buckets = st.integers(0, BUCKETS - 1)


def row_id(bucket: int, place: int = 1) -> int:
    return (bucket << 13) + place


@dataclass
class Surroundings:
    """What all runs of the machine share."""

    server: PostgresServer
    template: str
    """A DataStore with our SQL installed."""
    open_storage: Callable[[str], Storage]
    """A new storage; each run has a name of its own."""
    processes: SegmentProcesses
    steps: int = 0
    """Made so far by all runs."""


@contextmanager
def surroundings(server: PostgresServer, open_storage: Callable[[str], Storage]) -> Iterator[Surroundings]:
    with ExitStack() as stack:
        template = stack.enter_context(server.new_database("machine"))
        with server.connect(template) as admin:
            prepare_datastore(admin)
        install(handle(ScratchDatabase(server, template)), ROLES)
        stack.enter_context(stepping())
        processes = SegmentProcesses(1)
        stack.callback(processes.close)
        yield Surroundings(server, template, open_storage, processes)


class Machine(RuleBasedStateMachine):
    """Subclassed with `surroundings` set."""

    surroundings: Surroundings

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        around = self.surroundings
        name = self._stack.enter_context(around.server.new_database("machine", template=around.template))
        self.database = ScratchDatabase(around.server, name)
        self.storage = around.open_storage(secrets.token_hex(8))
        self.spool = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="machine-")))
        self.admin = self._stack.enter_context(self.database.connect())
        self.witness = Witness(self.database, self.storage, NAMES)
        self._stack.callback(self.witness.close)
        self.writers = [Writer(self.database, "ckan_write", self.admin) for _ in range(WRITERS)]
        self.superuser = Writer(self.database, None, self.admin)
        self.daemons: list[SteppedDaemon] = []
        self._numbers = iter(range(1, 1 << 30))
        self._watch()

    @initialize(segment_bytes=st.sampled_from([30, 100, 100_000]), event_triggers=st.booleans())
    def begin_all(self, segment_bytes: int, event_triggers: bool) -> None:
        self.segment_bytes = segment_bytes
        if not event_triggers:
            self.admin.execute("DROP EVENT TRIGGER datastore_dumper_ddl")
            self.admin.execute("DROP EVENT TRIGGER datastore_dumper_drop")
        self.daemons = [self._new_daemon() for _ in range(2)]
        for table in TABLES:
            create_table(self.admin, table, {"a": "text", "n": "int"})
            self.insert(0, table, list(range(BUCKETS)))
        self.daemons[0].reconcile()

    # Writers. What they do is committed at once, unless they have begun a transaction.

    @rule(writer=writers, level=st.sampled_from(["READ COMMITTED", "REPEATABLE READ"]))
    def begin(self, writer: int, level: str) -> None:
        if not self.writers[writer].in_transaction:
            self._run(writer, f"BEGIN ISOLATION LEVEL {level}")

    @rule(writer=writers, how=st.sampled_from(["COMMIT", "COMMIT", "ROLLBACK", "SAVEPOINT s", "ROLLBACK TO s"]))
    def go_on(self, writer: int, how: str) -> None:
        if self.writers[writer].in_transaction:
            self._run(writer, how)

    @rule(writer=writers, table=tables, where=st.lists(buckets, min_size=1, max_size=4))
    def insert(self, writer: int, table: str, where: list[int]) -> None:
        rows = [f"({row_id(bucket, next(self._numbers) % 8000)}, {self._value()})" for bucket in where]
        self._run(writer, f"INSERT INTO {{}} (_id, a) VALUES {', '.join(rows)} ON CONFLICT DO NOTHING", table)

    @rule(writer=writers, table=tables, bucket=buckets)
    def update(self, writer: int, table: str, bucket: int) -> None:
        self._run(writer, f"UPDATE {{}} SET a = {self._value()} WHERE _id >> 13 = {bucket}", table)

    @rule(writer=writers, table=tables, bucket=buckets, to=buckets)
    def move(self, writer: int, table: str, bucket: int, to: int) -> None:
        change = (to - bucket) << 13
        self._run(writer, f"UPDATE {{}} SET _id = _id + {change} WHERE _id >> 13 = {bucket}", table)

    @rule(writer=writers, table=tables, bucket=st.one_of(st.none(), buckets))
    def delete(self, writer: int, table: str, bucket: int | None) -> None:
        self._run(writer, "TRUNCATE {}" if bucket is None else f"DELETE FROM {{}} WHERE _id >> 13 = {bucket}", table)

    @rule(writer=writers, table=tables, where=st.lists(buckets, min_size=1, max_size=6), freeze=st.booleans())
    def copy(self, writer: int, table: str, where: list[int], freeze: bool) -> None:
        """With FREEZE as DataPusher+ does: TRUNCATE and COPY in one transaction."""
        session = self.writers[writer]
        begun = freeze and not session.in_transaction
        if begun:
            self._run(writer, "BEGIN")
        if freeze and not self._run(writer, "TRUNCATE {}", table):
            return
        lines = [f"{row_id(bucket, next(self._numbers) % 8000)}\tcopied{next(self._numbers)}" for bucket in where]
        options = "(FREEZE)" if freeze else ""
        statement = sql.SQL(f"COPY {{}} (_id, a) FROM STDIN {options}").format(sql.Identifier(table))
        if session.copy(statement, lines) and begun:
            self._run(writer, "COMMIT")
        self.witness.note()

    @rule(
        writer=writers,
        table=tables,
        change=st.sampled_from(
            [
                "ADD COLUMN b text DEFAULT 'new'",
                "DROP COLUMN b",
                "RENAME COLUMN a TO c",
                "RENAME COLUMN c TO a",
                "RENAME COLUMN n TO b",
                "ALTER COLUMN n TYPE text",
                "ALTER COLUMN n TYPE numeric USING n::numeric",
                "RENAME COLUMN _id TO id",
                "RENAME COLUMN id TO _id",
                "ALTER COLUMN _id TYPE bigint",
                "ALTER COLUMN _id TYPE int",
            ]
        ),
    )
    def alter(self, writer: int, table: str, change: str) -> None:
        self._run(writer, f"ALTER TABLE {{}} {change}", table)

    @rule(writer=writers, table=tables)
    def comment(self, writer: int, table: str) -> None:
        info = f'{{{{"_info":{{{{"label":"{next(self._numbers)}"}}}}}}}}'
        self._run(writer, f"COMMENT ON COLUMN {{}}.a IS ' {info}'", table)

    @rule(writer=writers, table=tables, what=st.sampled_from(["DROP", "CREATE", "DROP, CREATE"]))
    def remake(self, writer: int, table: str, what: str) -> None:
        if "DROP" in what:
            self._run(writer, "DROP TABLE {}", table)
        if "CREATE" in what:
            self._run(writer, "CREATE TABLE {} (_id serial PRIMARY KEY, _full_text tsvector, a text, n int)", table)
            self.insert(writer, table, [0, 2])

    @rule(writer=writers, table=names, to=names)
    def rename(self, writer: int, table: str, to: str) -> None:
        self._run(writer, "ALTER TABLE {} RENAME TO {}", table, to)

    # Somebody who thinks he knows what he does.

    @rule(
        table=tables,
        trigger=st.sampled_from(TRIGGERS),
        what=st.sampled_from(
            [
                "ALTER TABLE {{}} DISABLE TRIGGER {}",
                "ALTER TABLE {{}} ENABLE TRIGGER {}",
                "ALTER TABLE {{}} ENABLE ALWAYS TRIGGER {}",
                "ALTER TABLE {{}} ENABLE REPLICA TRIGGER {}",
                "DROP TRIGGER {} ON {{}}",
                "COMMENT ON TRIGGER {} ON {{}} IS 'datastore_dumper of old'",
            ]
        ),
    )
    def tamper(self, table: str, trigger: str, what: str) -> None:
        self._run_as_superuser(what.format(trigger), table)

    @rule(table=tables)
    def vacuum_full(self, table: str) -> None:
        self._run_as_superuser("VACUUM FULL {}", table)

    @rule(table=tables, bucket=buckets)
    def write_as_replica(self, table: str, bucket: int) -> None:
        self._run_as_superuser("SET session_replication_role = replica")
        self._run_as_superuser(f"UPDATE {{}} SET a = {self._value()} WHERE _id >> 13 = {bucket}", table)
        self._run_as_superuser("RESET session_replication_role")

    # Daemons. One that stands at a failpoint does nothing else.

    @rule(daemon=daemons)
    def publish_all(self, daemon: int) -> None:
        if self.daemons[daemon].step is None:
            self._publish_all(self.daemons[daemon])

    @rule(daemon=daemons, halt=st.sampled_from(HALTS), table=tables, bucket=buckets)
    def publish_halting(self, daemon: int, halt: str, table: str, bucket: int) -> None:
        one = self.daemons[daemon]
        if one.step is not None:
            return
        self._run_as_superuser(f"UPDATE {{}} SET n = n WHERE _id >> 13 = {bucket}", table)
        if due := one.due():
            one.dump(due[bucket % len(due)], halt)

    @rule(daemon=daemons, halt=st.sampled_from(["", "", "within_reconcile", "before_attach", "after_attach"]))
    def reconcile(self, daemon: int, halt: str) -> None:
        if self.daemons[daemon].step is None:
            self.daemons[daemon].reconcile(halt)

    @rule(daemon=daemons, selection=st.sampled_from(SELECTIONS))
    def select(self, daemon: int, selection: Selection) -> None:
        """One daemon may have read its configuration again, and the other not yet."""
        if self.daemons[daemon].step is None:
            self.daemons[daemon].select(selection)

    @rule(table=tables)
    def ask(self, table: str) -> None:
        self.admin.execute("SELECT datastore_dumper.ask(%s)", [table])

    @rule(daemon=daemons, halt=st.sampled_from(["", "before_garbage", "within_garbage"]))
    def collect(self, daemon: int, halt: str) -> None:
        if self.daemons[daemon].step is None:
            self.daemons[daemon].collect(halt)

    @rule(daemon=daemons)
    def resume(self, daemon: int) -> None:
        self.daemons[daemon].resume()

    @rule(daemon=daemons)
    def kill(self, daemon: int) -> None:
        if self.daemons[daemon].step is not None:
            self.daemons[daemon].kill()
            self.daemons[daemon] = self._new_daemon()

    @rule(daemon=daemons, what=st.sampled_from(["renewed", "expired", "expired unnoticed"]))
    def leases(self, daemon: int, what: str) -> None:
        """Expired, by the database's clock alone or also by that of the holder."""
        if what == "renewed":
            self.daemons[daemon].renew()
            return
        # But for a row that a daemon has locked which stands within its publication.
        self.admin.execute(
            "UPDATE datastore_dumper.resource AS r SET lease_until = clock_timestamp() - interval '1 s' "
            "FROM (SELECT relid FROM datastore_dumper.resource FOR UPDATE SKIP LOCKED) AS free WHERE r.relid = free.relid"
        )
        if what == "expired":
            self.daemons[daemon].lose_trust()

    @precondition(lambda self: self.daemons)
    @invariant()
    def promises_hold(self) -> None:
        self.surroundings.steps += 1
        self.witness.check()
        if self._watchdog_errors:
            raise self._watchdog_errors[0]

    def teardown(self) -> None:
        try:
            if self.daemons:
                self._be_quiet()
                self._check_quiet()
        finally:
            for each in (*self.writers, self.superuser, *self.daemons):
                each.close()
            self._stop.set()
            self._watchdog.join()
            self._stack.close()

    def _be_quiet(self) -> None:
        for writer in range(WRITERS):
            self.go_on(writer, "ROLLBACK")
        for daemon in self.daemons:
            daemon.resume()
            daemon.select(SELECTIONS[0])
        self.leases(0, "expired unnoticed")
        self.witness.check()
        daemon = self.daemons[0]
        for _ in range(_QUIET_ROUNDS):
            daemon.reconcile()
            if not self._publish_all(daemon):
                return
        raise AssertionError(f"something is due again and again: {self._resources()}")

    def _check_quiet(self) -> None:
        self.witness.check()
        self.witness.check_final()
        assert not_fresh(self.admin, list(FORMATS)) == []
        assert left_in_database(self.admin) == {}
        collect_all(self.database, self.storage)
        assert orphans(self.database, self.storage) == []
        assert list(self.spool.iterdir()) == []

    def _publish_all(self, daemon: SteppedDaemon) -> bool:
        """Each due table once. False: none was."""
        due = daemon.due()
        for relid in due:
            daemon.dump(relid)
        return bool(due)

    def _run(self, writer: int, statement: str, *tables: str) -> bool:
        done = self.writers[writer].execute(_filled(statement, *tables))
        self.witness.note()
        return done

    def _run_as_superuser(self, statement: str, *tables: str) -> None:
        self.superuser.execute(_filled(statement, *tables))
        self.witness.note()

    def _value(self) -> str:
        return f"'value {next(self._numbers)}'"

    def _new_daemon(self) -> SteppedDaemon:
        return SteppedDaemon(
            f"daemon{next(self._numbers)}",
            handle(self.database, "dumper"),
            self.storage,
            self.surroundings.processes,
            self.spool,
            self.segment_bytes,
        )

    def _resources(self) -> object:
        return self.admin.execute("SELECT * FROM datastore_dumper.resource").fetchall()

    def _watch(self) -> None:
        """The watchdog of some daemon."""
        self._stop = threading.Event()
        self._watchdog_errors: list[BaseException] = []

        def run() -> None:
            try:
                watch(handle(self.database, "dumper"), self._stop, lambda: True)
            except BaseException as error:  # noqa: BLE001 - the invariant raises it
                self._watchdog_errors.append(error)

        self._watchdog = threading.Thread(target=run, daemon=True)
        self._watchdog.start()


def _filled(statement: str, *tables: str) -> sql.Composed:
    return sql.SQL(statement).format(*map(sql.Identifier, tables))
