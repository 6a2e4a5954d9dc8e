"""The spool directory: private, removed at the end, and those of killed processes by the next one."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from datastore_dumper.errors import ConfigError
from datastore_dumper.spool import spool_directory

_HOLD = """
import sys, pathlib
from datastore_dumper.spool import spool_directory
with spool_directory(pathlib.Path(sys.argv[1])) as directory:
    (directory / "segment").write_bytes(b"x" * 100)
    print(directory, flush=True)
    sys.stdin.read()
"""


def test_private_and_removed(tmp_path: Path) -> None:
    with spool_directory(tmp_path) as directory:
        assert directory.stat().st_mode & 0o777 == 0o700
        (directory / "segment").write_bytes(b"x")
    assert list(tmp_path.iterdir()) == []


def test_the_next_process_removes_what_a_killed_one_left_and_nothing_else(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _HOLD, str(tmp_path)]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as killed,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as alive,
    ):
        assert killed.stdout is not None
        assert alive.stdout is not None
        left = Path(killed.stdout.readline().strip())
        in_use = Path(alive.stdout.readline().strip())
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert left.exists()
        with spool_directory(tmp_path) as directory:
            assert set(tmp_path.iterdir()) == {directory, in_use}
            assert (in_use / "segment").exists()
        alive.communicate("")


def test_what_a_cleaner_of_temporary_files_left_is_removed_too(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        cleaned = Path(process.stdout.readline().strip())
        for path in cleaned.iterdir():
            path.unlink()
        with spool_directory(tmp_path) as directory:
            assert set(tmp_path.iterdir()) == {directory, cleaned}
        process.kill()
    with spool_directory(tmp_path) as directory:
        assert list(tmp_path.iterdir()) == [directory]


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(ConfigError, match=r"export\.spool_directory") as caught, spool_directory(missing):
        pass
    assert str(missing) in caught.value.message
    assert list(tmp_path.iterdir()) == []
