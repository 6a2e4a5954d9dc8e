"""`datastore-dumper adopt` of a storage without a mark. Whose a storage is that has one: tests/listener/test_ownership.py."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner, Result

from datastore_dumper.cli import cli
from tests.support.daemon import Dumper

MARK = ".datastore-dumper.json"


@pytest.fixture
def other(dumper: Dumper) -> Path:
    """An empty directory beside that of the files."""
    path = dumper.directory / "mistyped"
    path.mkdir()
    return path


def adopt(dumper: Dumper, directory: Path, *options: str, answer: str = "") -> Result:
    path = dumper.write_config(storage={"disk": {"directory": str(directory)}})
    return CliRunner().invoke(cli, ["adopt", "-c", str(path), *options], input=answer)


def installation(dumper: Dumper) -> tuple[object, ...] | None:
    with dumper.database.connect() as admin:
        return admin.execute("SELECT * FROM datastore_dumper.installation").fetchone()


def test_a_storage_that_was_mistyped_is_left_alone_unless_somebody_says_yes(
    dumper: Dumper, writer: psycopg.Connection, other: Path
) -> None:
    assert dumper.once() == 0
    before = installation(dumper)
    refused = adopt(dumper, other, answer="n\n")
    assert refused.exit_code == 1
    assert "this database's files are in one that has" in refused.output
    assert installation(dumper) == before
    assert dumper.is_fresh()
    assert list(other.iterdir()) == []
    assert "Adopted" in adopt(dumper, other, "--yes").output
    assert not dumper.is_fresh()
    assert [path.name for path in other.iterdir()] == [MARK]


def test_nobodys_storage_is_left_to_the_daemon(dumper: Dumper, writer: psycopg.Connection, other: Path) -> None:
    before = installation(dumper)
    done = adopt(dumper, other, "--yes")
    assert (done.exit_code, "nothing to adopt" in done.output) == (0, True)
    assert installation(dumper) == before
    assert list(other.iterdir()) == []
