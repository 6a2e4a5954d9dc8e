"""Every command, given what is no configuration or what cannot be reached: three lines at the most, and the right exit code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from datastore_dumper.cli import cli
from datastore_dumper.errors import EXIT_CONFIG, EXIT_UNAVAILABLE
from tests.cli.conftest import command
from tests.support.daemon import Dumper

SECRET = "do-not-show-this-secret"
COMMANDS = [
    ("run", "--once"), ("check",), ("status",), ("dump", "t"), ("verify",), ("gc",), ("install",), ("uninstall",), ("adopt",),
    ("config", "validate"), ("config", "show"),
]  # fmt: skip
FILES = {
    "empty": b"",
    "binary": b"\x7fELF\0\1",
    "list": b"- a",
    "text": b"hello",
    "wrong": b"lease: {ttl_seconds: soon}",
}


def test_no_command_is_forgotten() -> None:
    without_configuration = {"demo"}
    assert {arguments[0] for arguments in COMMANDS} | without_configuration >= set(cli.commands)


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("content", FILES)
def test_no_configuration(tmp_path: Path, arguments: tuple[str, ...], content: str) -> None:
    path = tmp_path / "dumper.yaml"
    path.write_bytes(FILES[content])
    done = command(path, *arguments)
    assert (done.returncode, done.stdout) == (EXIT_CONFIG, "")
    assert 1 <= len(done.stderr.splitlines()) <= 3, done.stderr
    assert done.stderr.startswith(f"Error: {path}")


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_directory_and_nothing(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    for path in (tmp_path, tmp_path / "missing.yaml"):
        done = command(path, *arguments)
        assert done.returncode == EXIT_CONFIG
        assert 1 <= len(done.stderr.splitlines()) <= 3


def test_postgres_away(dumper: Dumper) -> None:
    path = dumper.write_config(database={"dsn": f"postgresql://u:{SECRET}@127.0.0.1:1/x"})
    for arguments in COMMANDS:
        if arguments[0] == "config":
            continue
        done = command(path, *arguments)
        assert done.returncode == EXIT_UNAVAILABLE, arguments
        assert SECRET not in done.stdout + done.stderr
        assert "Postgres cannot be reached" in done.stdout + done.stderr
        assert len(done.stderr.splitlines()) <= 3


def test_storage_away(dumper: Dumper, writer: psycopg.Connection) -> None:
    section = {
        "endpoint": "127.0.0.1:1", "secure": False, "bucket": "dumps", "access_key": "a", "secret_key": SECRET
    }  # fmt: skip
    path = dumper.write_config(storage={"type": "s3", "s3": section})
    for arguments in (("run", "--once"), ("dump", "t"), ("gc",), ("check",)):
        done = command(path, *arguments)
        assert done.returncode == EXIT_UNAVAILABLE, arguments
        assert SECRET not in done.stdout + done.stderr
        assert "storage.s3.endpoint" in done.stdout + done.stderr
        assert len([line for line in done.stderr.splitlines() if not line.startswith("{")]) <= 3


def test_ctrl_c_while_the_program_is_being_loaded() -> None:
    code = (
        "import sys\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'datastore_dumper.cli':\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "from datastore_dumper.command import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=90)
    assert (done.returncode, done.stderr) == (130, "Interrupted.\n")


def test_no_file_was_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATASTORE_DUMPER_CONFIG", raising=False)
    done = command(None, "status")
    assert done.returncode == EXIT_CONFIG
    assert "database.dsn is missing (no configuration file was named: see --config)" in done.stderr


def test_too_many_connections(dumper: Dumper, writer: psycopg.Connection) -> None:
    with dumper.database.connect() as admin:
        admin.execute("ALTER ROLE dumper CONNECTION LIMIT 0")
        try:
            done = command(dumper.write_config(), "status")
        finally:
            admin.execute("ALTER ROLE dumper CONNECTION LIMIT -1")
    assert done.returncode == EXIT_UNAVAILABLE
    assert "too many connections" in done.stderr
    assert "export.concurrency" in done.stderr
