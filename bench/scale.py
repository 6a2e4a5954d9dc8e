"""Many small tables: installing, the first files of all of them, reconciling, what the daemon asks when nothing happens, and the
answers to an operator."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

from bench.measurements import Goal, Outcome, seconds_of
from bench.rig import Rig
from datastore_dumper.choice import Selection
from datastore_dumper.install import install
from datastore_dumper.reader import reader_settings, recipe_of
from datastore_dumper.reconcile import reconcile
from tests.support.converged import not_fresh
from tests.support.datastore import DUMPER_ROLE, READ_ROLE, WRITE_ROLE
from tests.support.installation import ROLES, handle
from tests.support.postgres import Connection, ScratchDatabase
from tests.support.waiting import eventually

_TABLES_A_TRANSACTION = 250
_RECONCILE_SECONDS = 10
_DUMPS_A_SECOND = 100
_IDLE_QUERIES_A_SECOND = 1
_IDLE_SECONDS = 60  # one round of reconciling is in it
_LOOKUPS = 100
_FEW_TABLES = 1000  # with less, this is a test of the benchmark
_CREATE = """
DO $$
BEGIN
    FOR i IN {first}..{last} LOOP
        EXECUTE format(
            'CREATE TABLE %I (_id serial PRIMARY KEY, _full_text tsvector, a text, b numeric, c timestamp)', 'r' || i
        );
        EXECUTE format(
            'INSERT INTO %I (a, b, c) SELECT ''row '' || n, n / 7.0, now() FROM generate_series(1, 3) AS n', 'r' || i
        );
    END LOOP;
END $$
"""
_pause = threading.Event()


def run(rig: Rig) -> Outcome:
    database = rig.empty()
    outcome = Outcome(facts={"tables": rig.tables})
    rig.say(f"scale: creating {rig.tables:,} tables")
    create_tables(database, rig.tables)
    rig.say("scale: installing")
    seconds = seconds_of(lambda: install(handle(database), ROLES))
    outcome.add("install, with all triggers", "s", [seconds], note=f"{seconds / rig.tables * 1e3:.1f} ms a table")
    with database.connect() as admin:
        admin.execute("VACUUM ANALYZE")
    rig.say("scale: the first files of all")
    with rig.many([database], "disk") as (dumper, daemons):
        seconds = seconds_of(lambda: wait_until_fresh(database, rig.tables))
        rate = rig.tables / seconds
        outcome.add("first files of all tables, disk", "s", [seconds], note=f"{rate:,.0f} tables a second")
        outcome.goals.append(Goal("small tables a second, disk", rate, _DUMPS_A_SECOND, at_least=True))
        _reconcile(rig, database, outcome)
        _idle(rig, database, outcome)
        config = dumper.write_config()
        seconds = seconds_of(lambda: _status(config))
        outcome.add("datastore-dumper status --json", "s", [seconds])
        with database.connect(READ_ROLE) as reader:
            statement = "SELECT * FROM datastore_dumper.list(NULL, NULL, NULL, 'resource_id', false, 50, 0)"
            asked = [f"r{number}" for number in range(0, rig.tables, max(rig.tables // _LOOKUPS, 1))]
            lookups = [seconds_of(lambda: _lookup(reader, name)) for name in asked]  # noqa: B023 - called at once
            lists = [seconds_of(lambda: reader.execute(statement).fetchall()) for _ in range(rig.runs)]
        outcome.add("a lookup of one file", "s", lookups)
        outcome.add("a page of the list of all resources", "s", lists)
        assert len(daemons) == 1
    rig.server.drop_database(database.name)
    return outcome


def create_tables(database: ScratchDatabase, count: int) -> None:
    """Tables r0, r1, ... with three rows."""
    with database.connect(WRITE_ROLE) as writer:
        for first in range(0, count, _TABLES_A_TRANSACTION):
            last = min(first + _TABLES_A_TRANSACTION, count) - 1
            writer.execute(_CREATE.format(first=first, last=last).encode())


def wait_until_fresh(database: ScratchDatabase, count: int) -> None:
    """Until nothing is pending; then all files must be right."""
    with database.connect() as admin:
        eventually(
            lambda: admin.execute("SELECT FROM datastore_dumper.change LIMIT 1").fetchone() is None,
            timeout=60 + count,
            interval=0.05,
        )
        if count < _FEW_TABLES:
            assert not_fresh(admin, ["csv"]) == []


def _reconcile(rig: Rig, database: ScratchDatabase, outcome: Outcome) -> None:
    rig.say("scale: reconciling")
    with handle(database, DUMPER_ROLE).connect("reconcile") as connection:
        recipe = recipe_of(reader_settings(connection, READ_ROLE))

        def once() -> None:
            reconcile(connection, Selection(("csv",)), compats={"csv": "2.12"}, recipe=recipe, retain_seconds=0)

        seconds = [seconds_of(once) for _ in range(rig.runs)]
    series = outcome.add("reconcile", "s", seconds)
    outcome.goals.append(Goal("reconcile, seconds", series.median, _RECONCILE_SECONDS))


def _idle(rig: Rig, database: ScratchDatabase, outcome: Outcome) -> None:
    idle_seconds = _IDLE_SECONDS if rig.tables >= _FEW_TABLES else 2
    rig.say(f"scale: nothing for {idle_seconds} s")

    log = rig.postgres.directory / "postgres.log"
    with database.connect() as admin:
        for setting in ("log_statement = 'all'", "log_line_prefix = '%a|'"):
            admin.execute(f"ALTER SYSTEM SET {setting}".encode())
        admin.execute("SELECT pg_reload_conf()")
        _pause.wait(1)
        before = log.stat().st_size
        _pause.wait(idle_seconds)
        with log.open("rb") as lines:
            lines.seek(before)
            asked = sum(line.startswith(b"datastore-dumper ") and b"|LOG:" in line for line in lines)
        admin.execute("ALTER SYSTEM RESET ALL")
        admin.execute("SELECT pg_reload_conf()")
    rate = asked / idle_seconds
    outcome.facts["idle_queries_a_second"] = rate
    outcome.goals.append(Goal("queries a second when nothing happens", rate, _IDLE_QUERIES_A_SECOND))


def _lookup(reader: Connection, resource_id: str) -> None:
    row = reader.execute("SELECT fresh FROM datastore_dumper.lookup(%s, 'csv')", [resource_id]).fetchone()
    assert row == (True,), resource_id


def _status(config: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "datastore_dumper", "status", "--json", "-c", str(config)],
        check=True,
        capture_output=True,
    )
