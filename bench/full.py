"""A full export to disk, against Postgres alone: COPY of the same query by one backend, and psql's \\copy to a file."""

from __future__ import annotations

import subprocess
from pathlib import Path

from psycopg import sql

from bench.measurements import Goal, Outcome, rounds, seconds_of
from bench.rig import Rig
from bench.tables import RESOURCE_ID
from datastore_dumper.database import Database
from datastore_dumper.export import hold_snapshot
from datastore_dumper.formats import Compat, file_format
from datastore_dumper.formats.csv import CsvFormat
from tests.support.postgres import ScratchDatabase

_SHARE = 0.85


def run(rig: Rig) -> Outcome:
    database = rig.loaded(rig.rows)
    query = csv_query(database)
    target = rig.directory / "psql.csv"

    def one_backend() -> float:
        with database.connect() as connection:
            connection.execute("SET max_parallel_workers_per_gather = 0")
            return seconds_of(lambda: connection.execute(f"COPY ({query}) TO '/dev/null' (FORMAT csv)".encode()))

    def psql() -> float:
        return seconds_of(lambda: copy_with_psql(rig, database, query, target))

    with rig.daemon(database, "disk") as daemon:
        exports = []

        def ours() -> float:
            exports.append(daemon.full())
            return exports[-1].seconds

        rig.say("full: COPY of one backend, psql and the daemon take turns")
        values = rounds({"one backend": one_backend, "psql": psql, "daemon": ours}, rig.runs)
    size = target.stat().st_size
    target.unlink()
    assert exports[-1].event["bytes"] > size  # by the header line
    outcome = Outcome(facts={"rows": rig.rows, "csv_bytes": exports[-1].event["bytes"]})
    base = outcome.add("COPY TO '/dev/null', one backend", "s", values["one backend"])
    outcome.add("psql \\copy to a file", "s", values["psql"], against=base)
    daemon_series = outcome.add("daemon, commit to published", "s", values["daemon"], against=base)
    assert daemon_series.ratio is not None
    outcome.goals.append(Goal("daemon : one backend", daemon_series.ratio, _SHARE))
    return outcome


def csv_query(database: ScratchDatabase) -> str:
    """The query whose CSV is the file's rows: the daemon's own, for the whole table."""
    with Database(database.dsn).connect("bench") as connection:
        row = connection.execute(
            "SELECT to_regclass(format('public.%%I', %s::text))::oid::int", [RESOURCE_ID]
        ).fetchone()
        assert row is not None
        with hold_snapshot(connection, row[0]) as state:
            format_ = file_format("csv").format
            assert isinstance(format_, CsvFormat)
            copy = format_.copy_query(state.table, Compat(), sql.SQL("true")).as_string(connection)
    return copy.removeprefix("COPY (").rpartition(") TO STDOUT")[0]


def copy_with_psql(rig: Rig, database: ScratchDatabase, query: str, target: Path) -> None:
    subprocess.run(
        [
            rig.postgres.binaries.bin_directory / "psql",
            "--no-psqlrc", "--quiet", f"--dbname={database.dsn}", "--set=ON_ERROR_STOP=1",
            f"--command=\\copy ({query}) TO '{target}' (FORMAT csv)",
        ],
        check=True,
    )  # fmt: skip
