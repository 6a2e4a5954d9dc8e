"""What our triggers cost those who write: many connections, many statements in one transaction, one large COPY.

Two tables of the same shape take turns, one with our triggers and one without. Somebody listens, as the daemon does.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import psycopg
from psycopg import sql

from bench.measurements import Goal, Outcome, rounds, seconds_of
from bench.rig import Rig
from bench.tables import COLUMNS, create, rows_query
from datastore_dumper.install import install
from tests.support.datastore import WRITE_ROLE, insert
from tests.support.installation import ROLES, handle
from tests.support.postgres import ScratchDatabase

_CONNECTIONS = 16
_TPS_SHARE = 0.60
_STATEMENT_MICROSECONDS = 25
_COPY_SHARE = 1.10
_PLAIN, _WATCHED = "plain", "watched"


def run(rig: Rig) -> Outcome:
    database = rig.empty()
    install(handle(database), ROLES)
    with database.connect() as admin:
        for name in (_PLAIN, _WATCHED):
            create(admin, name)
        admin.execute("SELECT datastore_dumper.detach(%s::regclass)", [_PLAIN])
    outcome = Outcome(facts={"connections": _CONNECTIONS})
    with database.connect("dumper") as listener:
        listener.execute("LISTEN datastore_dumper")
        _commits(rig, database, outcome)
        _statements(rig, database, outcome)
        _copy(rig, database, outcome)
    rig.server.drop_database(database.name)
    return outcome


def _commits(rig: Rig, database: ScratchDatabase, outcome: Outcome) -> None:
    """Transactions of one INSERT with one row."""
    each = max(rig.rows // 1600, 20)
    script = rig.directory / "insert.sql"

    def tps(table: str) -> float:
        script.write_text(f"INSERT INTO {table} (_full_text, station, people) VALUES ('x', 'Town Hall', 7);\n")
        return _pgbench(rig, database, script, each)

    rig.say(f"writers: {_CONNECTIONS} connections, {each} commits each")
    values = rounds({name: lambda name=name: tps(name) for name in (_PLAIN, _WATCHED)}, rig.runs)  # type: ignore[misc]
    plain = outcome.add(f"{_CONNECTIONS} connections, without triggers", "tps", values[_PLAIN])
    watched = outcome.add(f"{_CONNECTIONS} connections, with triggers", "tps", values[_WATCHED], against=plain)
    assert watched.ratio is not None
    outcome.goals.append(Goal("commits a second, with : without", watched.ratio, _TPS_SHARE, at_least=True))


def _pgbench(rig: Rig, database: ScratchDatabase, script: Path, each: int) -> float:
    said = subprocess.run(
        [
            rig.postgres.binaries.bin_directory / "pgbench",
            "--no-vacuum", f"--client={_CONNECTIONS}", "--jobs=2", f"--transactions={each}", "--protocol=prepared",
            f"--file={script}", database.dsn_for(WRITE_ROLE),
        ],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    found = re.search(r"^tps = ([0-9.]+)", said, re.MULTILINE)
    assert found is not None, said
    return float(found.group(1))


def _statements(rig: Rig, database: ScratchDatabase, outcome: Outcome) -> None:
    """One transaction of many INSERTs with one row each, as datastore_upsert sends them."""
    count = max(rig.rows // 40, 100)
    rows = [("x", "Town Hall", number) for number in range(count)]

    def microseconds(table: str) -> float:
        with database.connect(WRITE_ROLE) as writer:
            seconds = seconds_of(lambda: insert(writer, table, ("_full_text", "station", "people"), rows))
        return seconds / count * 1e6

    rig.say(f"writers: {count:,} statements in one transaction")
    values = rounds({name: lambda name=name: microseconds(name) for name in (_PLAIN, _WATCHED)}, rig.runs)  # type: ignore[misc]
    plain = outcome.add(f"1 of {count:,} statements, without triggers", "us", values[_PLAIN])
    watched = outcome.add(f"1 of {count:,} statements, with triggers", "us", values[_WATCHED], against=plain)
    outcome.goals.append(Goal("added to a statement, us", watched.median - plain.median, _STATEMENT_MICROSECONDS))


def _copy(rig: Rig, database: ScratchDatabase, outcome: Outcome) -> None:
    """COPY FROM a file of the server's, which only a superuser can: the client costs nothing."""
    count = max(rig.rows // 2, 100)
    columns = sql.SQL(", ").join(map(sql.Identifier, ("_full_text", *COLUMNS)))
    with database.connect() as admin:
        file = f"{_one(admin, 'SHOW data_directory')}/bench.copy"
        admin.execute(sql.SQL("COPY ({}) TO {}").format(rows_query(1, count), sql.Literal(file)))

        def seconds(table: str) -> float:
            name = sql.Identifier(table)
            admin.execute(sql.SQL("TRUNCATE {}").format(name))
            admin.execute("CHECKPOINT")
            copy = sql.SQL("COPY {} ({}) FROM {}").format(name, columns, sql.Literal(file))
            return seconds_of(lambda: admin.execute(copy))

        rig.say(f"writers: COPY of {count:,} rows")
        values = rounds({name: lambda name=name: seconds(name) for name in (_PLAIN, _WATCHED)}, rig.runs)  # type: ignore[misc]
    plain = outcome.add(f"COPY of {count:,} rows, without triggers", "s", values[_PLAIN])
    watched = outcome.add(f"COPY of {count:,} rows, with triggers", "s", values[_WATCHED], against=plain)
    assert watched.ratio is not None
    outcome.goals.append(Goal("COPY FROM, with : without", watched.ratio, _COPY_SHARE))


def _one(connection: psycopg.Connection[tuple[object, ...]], query: str) -> object:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]
