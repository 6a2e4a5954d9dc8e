"""Superseded objects that the storage will not delete: they hold up neither the others nor the rounds of the daemon."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from datastore_dumper.errors import EXIT_FAILURE, StorageUnavailableError
from datastore_dumper.garbage import Collected, collect_garbage
from datastore_dumper.storage.base import BytesPart, ObjectHeaders, Storage
from datastore_dumper.storage.disk import DiskStorage
from tests.cli.conftest import command
from tests.support.daemon import Dumper
from tests.support.installation import handle

HEADERS = ObjectHeaders("text/csv", "x.csv")
KEYS = [f"t/{number}/t.csv" for number in range(3)]
REFUSED = "a/0/t.csv"


@pytest.fixture
def superseded(dumper: Dumper, writer: psycopg.Connection, tmp_path: Path) -> Dumper:
    """Objects whose links have expired; first comes one in a directory that leads out of the storage."""
    for key in (*KEYS, REFUSED):
        dumper.storage.write(key, [BytesPart(b"x")], HEADERS)
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / "files" / "a").rename(elsewhere)
    (tmp_path / "files" / "a").symlink_to(elsewhere)
    with dumper.database.connect() as admin:
        for hours, key in enumerate((*KEYS, REFUSED), 1):
            admin.execute(
                "INSERT INTO datastore_dumper.garbage VALUES (%s, now() - make_interval(hours => %s))", [key, hours]
            )
    return dumper


def waiting(dumper: Dumper) -> dict[str, bool]:
    """The list, and whether each is due."""
    with dumper.database.connect() as admin:
        return dict(admin.execute("SELECT key, delete_after < now() FROM datastore_dumper.garbage").fetchall())


def collect(dumper: Dumper, storage: Storage, most_seconds: float = 60) -> Collected:
    with handle(dumper.database, "dumper").connect("test") as connection:
        return collect_garbage(connection, storage, most_seconds)


def test_one_that_is_refused_is_put_off_and_the_others_go(superseded: Dumper) -> None:
    assert collect(superseded, superseded.storage) == Collected(deleted=3, refused=1)
    assert waiting(superseded) == {REFUSED: False}
    assert collect(superseded, superseded.storage) == Collected(0, 0)


def test_while_the_storage_is_away_nothing_is_put_off(superseded: Dumper, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def away(storage: DiskStorage, key: str) -> None:
        asked.append(key)
        raise StorageUnavailableError("the storage is away")

    monkeypatch.setattr(DiskStorage, "delete", away)
    assert collect(superseded, superseded.storage) == Collected(0, 0)
    assert waiting(superseded) == dict.fromkeys((*KEYS, REFUSED), True)
    assert asked == [REFUSED], "the first one shows it"


def test_it_takes_no_longer_than_it_may(superseded: Dumper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datastore_dumper.garbage._BATCH", 1)
    assert collect(superseded, superseded.storage, most_seconds=0) == Collected(0, 1)
    assert sum(waiting(superseded).values()) == 3


def test_gc_says_what_it_could_not_delete(superseded: Dumper) -> None:
    assert superseded.once() == 0  # now the storage is known to be ours, and the others are gone
    with superseded.database.connect() as admin:
        admin.execute("UPDATE datastore_dumper.garbage SET delete_after = now() - interval '1 s'")
    done = command(superseded.write_config(), "gc")
    assert done.returncode == EXIT_FAILURE
    assert "1 superseded file could not be deleted" in done.stderr
