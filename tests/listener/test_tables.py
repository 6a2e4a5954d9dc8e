"""Which tables get files, with the real daemon: patterns, sizes, formats, and files that are kept on demand."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from datastore_dumper.failpoints import VARIABLE
from datastore_dumper.install import install
from tests.support.daemon import Dumper
from tests.support.datastore import create_table
from tests.support.installation import ROLES, handle
from tests.support.waiting import eventually

PATIENT = {"quiet_seconds": 600, "max_delay_seconds": 600}


@pytest.fixture
def writer(dumper: Dumper):
    """Tables a-1 of 1 row and a-100 and b-100 of 100, and a connection of CKAN's write role."""
    install(handle(dumper.database), ROLES)
    with dumper.database.connect("ckan_write") as connection:
        for name in ("a-1", "a-100", "b-100"):
            create_table(connection, name, {"n": "int4"})
            add(connection, name, int(name[2:]))
        yield connection


def add(writer: psycopg.Connection, table: str, rows: int) -> None:
    writer.execute(f'INSERT INTO "{table}" (n) SELECT generate_series(1, {rows})')


def files(dumper: Dumper) -> set[tuple[str, str]]:
    with dumper.database.connect() as admin:
        return set(admin.execute("SELECT resource_id, format FROM datastore_dumper.dump_status"))


def choices(dumper: Dumper) -> dict[str, str]:
    with dumper.database.connect() as admin:
        return dict(admin.execute("SELECT resource_id, choice FROM datastore_dumper.resource").fetchall())


def changed(dumper: Dumper) -> set[str]:
    """Tables with change rows."""
    with dumper.database.connect() as admin:
        rows = admin.execute(
            "SELECT DISTINCT r.resource_id FROM datastore_dumper.change JOIN datastore_dumper.resource AS r USING (relid)"
        )
        return {name for (name,) in rows}


def garbage(dumper: Dumper) -> int:
    with dumper.database.connect() as admin:
        return admin.execute("SELECT count(*) FROM datastore_dumper.garbage").fetchone()[0]


def ask(writer: psycopg.Connection, table: str) -> None:
    assert writer.execute("SELECT datastore_dumper.ask(%s)", [table]).fetchone() == (True,)


def csv(*names: str) -> set[tuple[str, str]]:
    return {(name, format) for name in names for format in ("csv", "csv-bom")}


def test_patterns(dumper: Dumper, writer) -> None:
    tables = {"include": ["a-*"], "exclude": ["*-1"]}
    assert dumper.once(tables=tables) == 0
    assert files(dumper) == csv("a-100")
    assert choices(dumper) == {"a-1": "excluded", "a-100": "always", "b-100": "excluded"}
    assert changed(dumper) == set()
    assert dumper.once() == 0
    assert files(dumper) == csv("a-1", "a-100", "b-100")
    assert dumper.once(tables=tables) == 0
    assert files(dumper) == csv("a-100")
    assert garbage(dumper) == 4  # downloads under way finish


def test_what_changed_while_it_was_excluded_is_in_the_file(dumper: Dumper, writer) -> None:
    dumper.once()
    excluded = {"exclude": ["b-*"]}
    dumper.once(tables=excluded)
    add(writer, "b-100", 5)
    dumper.once(tables=excluded)
    assert changed(dumper) == set()
    assert dumper.once() == 0
    assert dumper.file("b-100").count(b"\n") == 106


def test_formats(dumper: Dumper, writer) -> None:
    tables = {"formats": ["a-*=tsv json", "*=csv"]}
    assert dumper.once(tables=tables) == 0
    wanted = {("a-1", "tsv"), ("a-1", "json"), ("a-100", "tsv"), ("a-100", "json"), ("b-100", "csv")}
    assert files(dumper) == wanted
    add(writer, "a-1", 1)
    assert dumper.once(tables=tables) == 0
    assert files(dumper) == wanted
    assert dumper.once(tables={"formats": ["a-*=tsv"]}, export={"formats": ["csv"]}) == 0
    assert files(dumper) == {("a-1", "tsv"), ("a-100", "tsv"), ("b-100", "csv")}


def test_sizes(dumper: Dumper, writer) -> None:
    tables = {"min_rows": 100}
    assert dumper.once(tables=tables) == 0
    assert files(dumper) == csv("a-100", "b-100")
    assert choices(dumper)["a-1"] == "too_small"
    assert changed(dumper) == set()
    add(writer, "a-1", 98)
    assert dumper.once(tables=tables) == 0
    assert choices(dumper)["a-1"] == "too_small"
    add(writer, "a-1", 1)
    assert dumper.once(tables=tables) == 0
    assert files(dumper) == csv("a-1", "a-100", "b-100")
    writer.execute('DELETE FROM "a-1" WHERE _id > 50')
    assert dumper.once(tables=tables) == 0
    assert files(dumper) == csv("a-1", "a-100", "b-100")
    writer.execute('DELETE FROM "a-1" WHERE _id > 49')
    assert dumper.once(tables=tables) == 0
    assert files(dumper) == csv("a-100", "b-100")
    with dumper.database.connect() as admin:
        detail = admin.execute(
            "SELECT choice_detail FROM datastore_dumper.resource WHERE resource_id = 'a-1'"
        ).fetchone()
    assert detail == ("49 rows: tables.min_rows is 100",)


def test_another_least_size_is_heeded_without_a_change(dumper: Dumper, writer) -> None:
    assert dumper.once(tables={"min_rows": 5}) == 0
    assert files(dumper) == csv("a-100", "b-100")
    assert dumper.once(tables={"min_rows": 1}) == 0
    assert files(dumper) == csv("a-1", "a-100", "b-100")
    assert dumper.once(tables={"min_rows": 1000}) == 0
    assert files(dumper) == set()
    assert dumper.once(tables={"min_bytes": 1}) == 0
    assert files(dumper) == csv("a-1", "a-100", "b-100")
    assert dumper.once(tables={"min_bytes": 1024**3}) == 0
    assert files(dumper) == set()
    assert dumper.once(tables={"min_bytes": 1024**3}) == 0


def test_on_demand(dumper: Dumper, writer) -> None:
    tables = {"policy": "on_demand"}
    with dumper.running(debounce=PATIENT, tables=tables) as daemon:
        eventually(lambda: choices(dumper)["a-100"] == "not_asked")
        ask(writer, "a-100")
        daemon.wait_for("published", resource_id="a-100", rows=100)
        add(writer, "b-100", 1)
        assert files(dumper) == csv("a-100")
        assert choices(dumper) == {"a-1": "not_asked", "a-100": "on_demand", "b-100": "not_asked"}
    dumper.once(tables=tables)
    assert changed(dumper) == set()
    add(writer, "a-100", 1)
    dumper.once(tables=tables)
    assert dumper.file("a-100").count(b"\n") == 102
    ask(writer, "b-100")
    dumper.once(tables=tables)
    assert dumper.file("b-100").count(b"\n") == 102


def test_whoever_asks_before_anything_is_decided_is_heard(dumper: Dumper, writer) -> None:
    ask(writer, "a-100")
    dumper.once(tables={"policy": "on_demand"})
    assert files(dumper) == csv("a-100")


def test_files_that_nobody_asks_for_go(dumper: Dumper, writer) -> None:
    dumper.once()
    tables = {"policy": "on_demand", "unasked_days": 3}
    dumper.once(tables=tables)
    assert files(dumper) == csv("a-1", "a-100", "b-100")  # made before anybody could ask: as if asked for now
    with dumper.database.connect() as admin:
        admin.execute(
            "UPDATE datastore_dumper.resource SET asked_at = now() - interval '3 days' WHERE resource_id <> 'a-1'"
        )
    ask(writer, "b-100")
    dumper.once(tables=tables)
    assert files(dumper) == csv("a-1", "b-100")
    assert garbage(dumper) == 2
    ask(writer, "a-100")
    dumper.once(tables=tables)
    assert files(dumper) == csv("a-1", "a-100", "b-100")


def test_a_table_that_is_too_small_is_not_made_for_whoever_asks(dumper: Dumper, writer) -> None:
    tables = {"policy": "on_demand", "min_rows": 10}
    dumper.once(tables=tables)
    ask(writer, "a-1")
    dumper.once(tables=tables)
    assert choices(dumper)["a-1"] == "too_small"
    assert files(dumper) == set()
    assert writer.execute("SELECT datastore_dumper.ask('a-1')").fetchone() == (False,)


def test_a_running_daemon_heeds_another_selection(dumper: Dumper, writer) -> None:
    with dumper.running() as daemon:
        daemon.wait_for("published", resource_id="b-100")
        reload(dumper, daemon, tables={"exclude": ["b-*"], "formats": ["a-1=json"]})
        daemon.wait_for("published", resource_id="a-1", formats=["json"])
        assert {name for name, _ in files(dumper)} == {"a-1", "a-100"}
        reload(dumper, daemon, tables={})
        daemon.wait_for("published", 2, resource_id="b-100")


def test_a_selection_that_comes_while_a_table_is_exported(dumper: Dumper, writer, tmp_path: Path) -> None:
    """The reconciler decides before the file of the former selection is there, and again afterwards."""
    mark = tmp_path / "before_publish"
    env = {VARIABLE: f"before_publish=pause:{tmp_path}"}
    look = {"reconcile_interval_seconds": 600}
    with dumper.running(env, look=look, export={"concurrency": 1}, lease={"ttl_seconds": 120}) as daemon:
        eventually(mark.exists)
        reload(dumper, daemon, look=look, tables={"formats": ["a-1=json", "a-100=json", "b-100=json"]})
        daemon.wait_for("config_reloaded")
        daemon.wait_for("reconciled", 2)
        mark.with_name(f"{mark.name}.release").touch()
        eventually(lambda: files(dumper) == {(name, "json") for name in ("a-1", "a-100", "b-100")})


def reload(dumper: Dumper, daemon: Any, **sections: Any) -> None:
    dumper.write_config(**sections)
    daemon.process.send_signal(signal.SIGHUP)


def test_a_dump_that_is_asked_for_by_name(dumper: Dumper, writer) -> None:
    """Whoever is in charge may ask, too; what is excluded stays so."""
    tables = {"policy": "on_demand", "exclude": ["b-*"]}
    dumper.once(tables=tables)
    for name in ("a-1", "b-100"):
        writer.execute("SELECT datastore_dumper.request(%s, false)", [name])
    assert dumper.once(tables=tables) == 0
    assert files(dumper) == csv("a-1")
    with dumper.database.connect() as admin:
        assert admin.execute(
            "SELECT count(*) FROM datastore_dumper.resource WHERE requested_at IS NOT NULL"
        ).fetchone() == (0,)


def test_first_dumps_are_in_nobodys_way(dumper: Dumper, writer) -> None:
    """One place, one first dump in a minute: what has files goes on, and the others wait."""
    writer.execute('DROP TABLE "a-1", "b-100"')
    assert dumper.once() == 0
    for number in range(20):
        create_table(writer, f"new-{number}", {"n": "int4"})
    export = {"concurrency": 1, "first_dumps_per_minute": 1}
    with dumper.running(export=export) as daemon:
        assert daemon.wait_for("published")["resource_id"].startswith("new-")
        for rows in range(101, 104):
            add(writer, "a-100", 1)
            daemon.wait_for("published", resource_id="a-100", rows=rows)
        assert len({event["resource_id"] for event in daemon.all("published")}) <= 4
        dumper.write_config()
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for("published", resource_id="new-19")


def test_a_first_dump_that_another_daemon_takes_does_not_count(dumper: Dumper, writer) -> None:
    """Nor one that the reconciler or anybody else is just writing to: there is nothing to wait a minute for."""
    writer.execute('DROP TABLE "a-1", "b-100"')
    assert dumper.once() == 0
    with (
        dumper.database.connect() as other,
        dumper.running(export={"first_dumps_per_minute": 1}, debounce={"quiet_seconds": 5}) as daemon,
        dumper.database.connect() as admin,
    ):
        create_table(writer, "new", {"n": "int4"})
        with other.transaction():
            other.execute("SELECT FROM datastore_dumper.resource WHERE resource_id = 'new' FOR UPDATE")
            eventually(lambda: admin.execute(CLAIMS).fetchone() != (0,))
        daemon.wait_for("published", resource_id="new")


def test_once_tries_again_what_somebody_was_just_writing_to(
    dumper: Dumper, writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datastore_dumper.daemon._MISSED_SECONDS", 5.0)
    assert dumper.once() == 0
    add(writer, "a-100", 1)
    add(writer, "b-100", 1)

    def let_go(other: psycopg.Connection) -> None:
        eventually(lambda: changed(dumper) == {"a-100"})  # which came first, for it has waited longer
        other.rollback()

    with dumper.database.connect() as other, ThreadPoolExecutor(1) as thread:
        other.execute("BEGIN")
        other.execute("SELECT FROM datastore_dumper.resource WHERE resource_id = 'a-100' FOR UPDATE")
        released = thread.submit(let_go, other)
        assert dumper.once() == 0
        released.result()
    assert changed(dumper) == set()


def test_once_counts_what_stays_locked(dumper: Dumper, writer) -> None:
    assert dumper.once() == 0
    add(writer, "a-100", 1)
    with dumper.database.connect() as other, other.transaction():
        other.execute("SELECT FROM datastore_dumper.resource WHERE resource_id = 'a-100' FOR UPDATE")
        assert dumper.once() == 1
    assert changed(dumper) == {"a-100"}


CLAIMS = r"SELECT count(*) FROM pg_stat_activity WHERE state = 'idle' AND query LIKE '%lease\_epoch = %'"
"""Connections of a daemon whose last statement was to claim a table: it got none, else more would have followed."""
