"""The demo's checks notice what they are there for, and its data are what it says."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from datastore_dumper.database import Connection
from datastore_dumper.demo.checks import CheckFailedError, lookup, verify_files
from datastore_dumper.demo.data import FLIGHTS, data_file, flights
from datastore_dumper.demo.datastore import MIN_ROWS, RESOURCE_ID, burst, create_and_load, reload
from datastore_dumper.errors import ConfigError
from datastore_dumper.install import install
from datastore_dumper.sqlfiles import query
from tests.support.daemon import Dumper
from tests.support.installation import ROLES, handle


def ignore(_done: float) -> None:
    """Nobody watches."""


@pytest.fixture
def writer(dumper: Dumper) -> Iterator[Connection]:
    """CKAN's write role, in a DataStore with the demo's table, published."""
    install(handle(dumper.database), ROLES)
    with dumper.database.connect("ckan_write") as connection:
        create_and_load(connection, flights(data_file(), 200), ignore)
        assert dumper.once() == 0
        yield connection


@pytest.fixture
def reader(dumper: Dumper) -> Iterator[Connection]:
    with dumper.database.connect("ckan_read") as connection:
        yield connection


def test_good_files_pass(dumper: Dumper, writer: Connection, reader: Connection) -> None:
    found = verify_files(reader, dumper.directory / "files")
    assert found.rows == 200
    assert dumper.file(RESOURCE_ID).count(b"\n") == 201


@pytest.mark.parametrize("format_name", ["csv", "csv-bom"])
def test_a_byte_that_differs_is_noticed(
    dumper: Dumper, writer: Connection, reader: Connection, format_name: str
) -> None:
    found = lookup(reader, format_name)
    assert found is not None
    path = dumper.directory / "files" / found.storage_key
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckFailedError, match="is not what CKAN's query sends"):
        verify_files(reader, dumper.directory / "files")


def test_a_stale_file_is_noticed(dumper: Dumper, writer: Connection, reader: Connection) -> None:
    writer.execute(query("demo_delete"), {"id": 1})
    with pytest.raises(CheckFailedError, match="stale"):
        verify_files(reader, dumper.directory / "files")


def test_a_burst_changes_a_row_with_every_commit(dumper: Dumper, writer: Connection, reader: Connection) -> None:
    assert reload(writer, flights(data_file(), MIN_ROWS), ignore) == MIN_ROWS
    assert dumper.once() == 0
    counts: list[int] = []
    with dumper.database.connect() as admin:

        def progress(_commits: float) -> None:
            row = admin.execute("SELECT count(DISTINCT xid) FROM datastore_dumper.change").fetchone()
            assert row is not None
            counts.append(row[0])

        made = burst(writer, commits=500, seconds=0, rows=MIN_ROWS, quiet_seconds=60, progress=progress)
    assert (made.commits, made.long_pauses) == (500, 0)
    assert counts == list(range(1, 501))
    assert burst(writer, commits=1, seconds=0, rows=MIN_ROWS, quiet_seconds=0, progress=ignore).long_pauses == 1


def test_all_flights_are_there() -> None:
    batches = list(flights(data_file(), FLIGHTS + 1))
    assert sum(rows for rows, _ in batches) == sum(lines.count(b"\n") for _, lines in batches) == FLIGHTS


def test_other_data_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "flights.csv.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("flights.csv", "year,month\n2013,1\n")
    with pytest.raises(ConfigError, match="has other columns"):
        list(flights(path, 1))
    path.write_bytes(b"no archive")
    with pytest.raises(ConfigError, match="cannot read the flights"):
        list(flights(path, 1))
