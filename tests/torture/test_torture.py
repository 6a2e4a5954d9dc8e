"""The torture's own parts: the plan is the seed's, and what must not be is noticed when it is there."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from datastore_dumper.storage.base import BytesPart, ObjectHeaders
from tests.torture.arena import Arena, open_arena
from tests.torture.faults import Faults
from tests.torture.fleet import Fleet
from tests.torture.ledger import newest, state_of
from tests.torture.observer import Observer
from tests.torture.plan import make_plan
from tests.torture.writers import Writer


def test_the_same_seed_makes_the_same_plan() -> None:
    plan = make_plan(1, 300, 3, "s3")
    assert plan == make_plan(1, 300, 3, "s3")
    assert plan != make_plan(2, 300, 3, "s3")
    assert {action.daemon for action in plan} == {0, 1, 2}
    assert max(action.at for action in plan) < 297
    kinds = {action.kind for seed in range(20) for action in make_plan(seed, 300, 3, "disk")}
    assert {"kill", "freeze", "silence", "crash_postgres", "disk_full"} <= kinds


@pytest.fixture(scope="module")
def arena() -> Iterator[Arena]:
    with open_arena("disk", 1) as opened:
        yield opened


@pytest.fixture
def observer(arena: Arena) -> Observer:
    return Observer(arena, Faults(arena, Fleet([]), print), ["u"], 1)


def put(arena: Arena, key: str, data: bytes) -> None:
    """An object, as if it had been published as t.csv."""
    arena.storage.write(key, [BytesPart(data)], ObjectHeaders("text/csv", "t.csv"))
    with arena.connect() as admin:
        admin.execute("INSERT INTO torture.publication (name, format, key) VALUES ('t', 'csv', %s)", [key])


def file_of(arena: Arena) -> bytes:
    query = "COPY (SELECT _id, a, n FROM t ORDER BY _id) TO STDOUT csv"
    with arena.connect("ckan_write") as connection, connection.cursor().copy(query) as copy:
        return b"_id,a,n\r\n" + b"".join(bytes(data) for data in copy)


def test_sums_of_large_tables_are_not_cut(arena: Arena) -> None:
    """60,000 hashes of 48 bits are more than 64 bits hold."""
    Writer(arena, "t", 70_000, 2, 0).prepare()
    with arena.connect("ckan_write") as connection:
        assert state_of(file_of(arena)) == newest(connection, "t")
        connection.execute("DROP TABLE t")
        connection.execute("DELETE FROM torture.state WHERE name = 't'")


def test_every_kind_of_change_is_in_the_ledger_and_wrong_files_are_noticed(arena: Arena, observer: Observer) -> None:
    writer = Writer(arena, "t", 50, 1, 0)
    writer.prepare()
    first = file_of(arena)
    with arena.connect("ckan_write") as connection:
        for kind, (_, change) in writer._kinds.items():
            if kind in {"roll back", "rewrite"}:
                continue
            with connection.transaction():
                change(connection)
                writer._seal(connection)
            assert state_of(file_of(arena)) == newest(connection, "t"), kind
        connection.execute("INSERT INTO t (a) VALUES ('something')")
        writer._seal(connection)
    last = file_of(arena)
    put(arena, "t/1/t.csv", first)
    put(arena, "t/2/t.csv", last)
    observer.finish()
    findings = observer.findings
    assert (findings.checked_files, findings.torn, findings.backwards) == (2, [], [])
    put(arena, "t/3/t.csv", last.replace(b"something", b"something else"))
    observer.finish()
    assert (len(findings.torn), findings.backwards) == (1, [])
    put(arena, "t/4/t.csv", first)
    observer.finish()
    assert (len(findings.torn), len(findings.backwards)) == (1, 1)


def test_a_stale_file_that_is_called_fresh_is_noticed(arena: Arena, observer: Observer) -> None:
    Writer(arena, "u", 50, 1, 0).prepare()
    assert arena.dumpers[0].once() == 0
    now = threading.Event()
    now.set()
    with arena.connect() as connection:
        observer._look_up(connection, arena.storage, now)
        assert (observer.findings.fresh_lookups, observer.findings.stale_served) == (1, [])
        # A commit that only the ledger knows of.
        connection.execute(
            "INSERT INTO torture.state SELECT name, version + 1, rows + 1, checksum FROM torture.tally WHERE name = 'u'"
        )
        observer._look_up(connection, arena.storage, now)
        assert len(observer.findings.stale_served) == 1


def test_a_short_run_finds_nothing() -> None:
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.torture",
            "--seconds",
            "12",
            "--seed",
            "3",
            "--daemons",
            "2",
            "--storage",
            "disk",
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    figures = json.loads(run.stdout)
    assert figures["commits"] > 0
    assert figures["checked_files"] > 0
    assert {figures[name] for name in ("lost", "torn", "backwards", "stale_served", "orphans", "crashed")} == {0}
