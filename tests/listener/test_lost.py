"""Published files that somebody took away or changed: nobody is sent to them, and they are made again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from datastore_dumper.install import install
from datastore_dumper.inventory import take_stock
from datastore_dumper.lost import retire_lost
from tests.support.daemon import Dumper
from tests.support.datastore import create_table
from tests.support.installation import ROLES, handle


@pytest.fixture
def reader(dumper: Dumper) -> Iterator[psycopg.Connection]:
    """Two published tables, and a connection of CKAN's read role."""
    install(handle(dumper.database), ROLES)
    with dumper.database.connect("ckan_write") as writer:
        for name in ("t", "u"):
            create_table(writer, name, {"a": "text"})
            writer.execute(f"INSERT INTO {name} (a) VALUES ('x')")
    assert dumper.once() == 0
    with dumper.database.connect("ckan_read") as connection:
        yield connection


def fresh(reader: psycopg.Connection, name: str) -> bool:
    row = reader.execute("SELECT fresh FROM datastore_dumper.lookup(%s, 'csv')", [name]).fetchone()
    return bool(row and row[0])


def compare(dumper: Dumper) -> int:
    with handle(dumper.database, "dumper").connect("test") as connection:
        return retire_lost(connection, dumper.storage, dumper.storage.list(), 0)


def path_of(dumper: Dumper, name: str) -> Path:
    root = Path(dumper.settings["storage"]["disk"]["directory"])
    return next(path for path in sorted(root.rglob(f"{name}.csv")) if path.read_bytes().startswith(b"_id"))


@pytest.mark.parametrize("damage", ["deleted", "changed"])
def test_it_is_taken_back_and_made_again(dumper: Dumper, reader, damage: str) -> None:
    assert compare(dumper) == 0
    path = path_of(dumper, "t")
    path.unlink() if damage == "deleted" else path.write_bytes(b"something else")
    assert compare(dumper) == 1
    assert (fresh(reader, "t"), fresh(reader, "u")) == (False, True)
    assert dumper.once() == 0
    assert fresh(reader, "t")
    assert dumper.file("t") == b"_id,a\r\n1,x\n"
    assert compare(dumper) == 0


def test_a_storage_that_fails_takes_nothing_back(dumper: Dumper, reader) -> None:
    root = Path(dumper.settings["storage"]["disk"]["directory"])
    root.rename(root.with_name("elsewhere"))
    with handle(dumper.database, "dumper").connect("test") as connection:
        take_stock(connection, dumper.storage, abandoned_seconds=0, retain_seconds=0)
    assert fresh(reader, "t")
