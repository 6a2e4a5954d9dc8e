"""`datastore-dumper gc`: what is superseded, what is known to nobody, and what must stay."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

from datastore_dumper.errors import EXIT_FAILURE
from datastore_dumper.storage.base import BytesPart, ObjectHeaders
from datastore_dumper.storage.disk_files import temporary_name
from tests.cli.conftest import command
from tests.support.daemon import Dumper

HEADERS = ObjectHeaders("text/csv", "x.csv")

# What somebody else keeps in the same place, and another installation under a prefix that begins with ours.
STRANGERS = ("minutes.txt", "staging/gone/old/gone.csv")


@pytest.fixture
def used(dumper: Dumper, writer: psycopg.Connection) -> Dumper:
    """Two published files, two superseded ones, one of them due, and two that nobody knows, one of them young."""
    assert dumper.once() == 0
    writer.execute("INSERT INTO t (a) VALUES ('x')")
    assert dumper.once() == 0
    with dumper.database.connect() as admin:
        admin.execute(
            "UPDATE datastore_dumper.garbage SET delete_after = now() - interval '1 s' "
            "WHERE key = (SELECT min(key) FROM datastore_dumper.garbage)"
        )
    for name in ("old", "young"):
        dumper.storage.write(f"gone/{name}/gone.csv", [BytesPart(b"12345")], HEADERS)
    half = dumper.directory / "files" / temporary_name("half.csv")
    half.write_bytes(b"half a fi")
    two_days_ago = time.time() - 2 * 24 * 3600
    strangers = [dumper.directory / "files" / name for name in STRANGERS]
    for path in strangers:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not ours")
    for path in (dumper.directory / "files/gone/old/gone.csv", half, *strangers):
        os.utime(path, (two_days_ago, two_days_ago))
    return dumper


def files(dumper: Dumper) -> set[Path]:
    return {path for path in (dumper.directory / "files").rglob("*") if path.is_file()}


def gc(dumper: Dumper, *arguments: str) -> dict[str, Any]:
    done = command(dumper.write_config(), "gc", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_a_dry_run_says_what_it_would_be(used: Dumper) -> None:
    before = files(used)
    report = gc(used, "--dry-run")
    assert report["objects"] == {"published": 2, "kept": 1, "due": 1, "unreferenced": 1, "young": 1}
    assert report["bytes"]["unreferenced"] == 5
    assert report["unreferenced_keys"] == ["gone/old/gone.csv"]
    assert report["unfinished_uploads"] == 1
    assert files(used) == before
    text = command(used.write_config(), "gc", "--dry-run").stdout
    assert "1 known to nobody, to be deleted (5 B)" in text
    assert text.endswith("Nothing was deleted: this was a dry run.\n")


def test_what_nobody_points_to_goes_and_nothing_else(used: Dumper) -> None:
    expected = used.file("t")
    gc(used)
    assert gc(used)["objects"] == {"published": 2, "kept": 1, "due": 0, "unreferenced": 0, "young": 1}
    assert not (used.directory / "files/gone/old").exists()
    assert (used.directory / "files/gone/young/gone.csv").exists()
    assert all((used.directory / "files" / name).exists() for name in STRANGERS)
    assert gc(used)["unfinished_uploads"] == 0
    assert used.file("t") == expected
    with used.database.connect() as admin:
        assert admin.execute("SELECT count(*) FROM datastore_dumper.garbage").fetchone() == (1,)


def test_a_storage_that_is_not_this_databases(used: Dumper, tmp_path: Path) -> None:
    """Whatever lies in a directory that was named by mistake stays there."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "precious.csv").write_bytes(b"x")
    os.utime(tmp_path / "other" / "precious.csv", (0, 0))
    config = used.write_config(storage={"disk": {"directory": str(tmp_path / "other")}})
    done = command(config, "gc")
    assert done.returncode == EXIT_FAILURE
    assert "no mark of this database" in done.stderr
    assert (tmp_path / "other" / "precious.csv").exists()
