"""Fixtures for tests of commands: a DataStore with our SQL and a table, and ways to run a command as an operator does."""

from __future__ import annotations

import io
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from datastore_dumper.cli import main
from tests.support.waiting import eventually


@dataclass(frozen=True)
class Done:
    """What a command said and ended with."""

    returncode: int
    stdout: str
    stderr: str


def command(config: Path | None, *arguments: str) -> Done:
    """`datastore-dumper ARGUMENTS -c CONFIG`, without -c if CONFIG is None; in this process for the sake of speed."""
    out, err = io.StringIO(), io.StringIO()
    former_arguments = sys.argv
    former = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    sys.argv = ["datastore-dumper", *arguments, *([] if config is None else ["-c", str(config)])]
    try:
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
            main()
    finally:
        sys.argv = former_arguments
        for number, handler in former.items():
            signal.signal(number, handler)
    assert isinstance(ended.value.code, int)
    return Done(ended.value.code, out.getvalue(), err.getvalue())


@dataclass
class Terminal:
    """A command at a terminal."""

    process: subprocess.Popen[bytes]
    output: bytearray = field(default_factory=bytearray)

    def wait_for(self, word: str) -> None:
        eventually(lambda: word.encode() in self.output)


@contextmanager
def at_terminal(config: Path, *arguments: str, **variables: str) -> Iterator[Terminal]:
    """The command in a terminal of 120 columns and 40 lines."""
    ours, theirs = pty.openpty()
    environ = {**os.environ, "COLUMNS": "120", "LINES": "40", "TERM": "xterm-256color"}
    environ.pop("NO_COLOR", None)
    environ |= {name: value for name, value in variables.items() if value}
    with subprocess.Popen(
        [sys.executable, "-m", "datastore_dumper", *arguments, "-c", str(config)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environ,
        preexec_fn=_heed_interrupts,
    ) as process:
        os.close(theirs)
        terminal = Terminal(process)
        reader = threading.Thread(target=_read, args=(ours, terminal))
        reader.start()
        try:
            yield terminal
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            reader.join()
            os.close(ours)


def _heed_interrupts() -> None:
    """A shell has its background jobs ignore Ctrl-C, and what they start inherits that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _read(ours: int, terminal: Terminal) -> None:
    try:
        while data := os.read(ours, 65536):
            terminal.output += data
    except OSError:
        return  # the last one at the other side has left: EIO on Linux
