"""The daemons as processes: started, killed, frozen, started again when they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datastore_dumper.errors import EXIT_NO_PERMISSION, EXIT_UNAVAILABLE
from tests.support.daemon import Dumper

_STOP_SECONDS = 90  # as long as systemd waits by default
_RESTART_SECONDS = 0.5  # as systemd would, only sooner
# A daemon that finds Postgres or the storage missing ends with a word, and is started again. SIGTERM may come before it has
# anything to finish.
_EXPECTED = {0, -signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGTERM, EXIT_UNAVAILABLE, EXIT_NO_PERMISSION}


@dataclass
class Member:
    """One daemon, in all its lives."""

    dumper: Dumper
    process: subprocess.Popen[bytes] | None = None
    is_frozen: bool = False
    may_start_at: float = 0.0
    """Monotonic."""
    lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def log(self) -> Path:
        return self.dumper.directory / "log"

    def start(self) -> None:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "datastore_dumper", "run", "-c", str(self.dumper.write_config())],
                stderr=output,
                start_new_session=True,
            )

    def signal(self, number: signal.Signals) -> bool:
        """False if there is no process to get it."""
        with self.lock:
            if self.process is None or self.process.poll() is not None:
                return False
            self.process.send_signal(number)
            return True

    def workers(self) -> list[int]:
        """Process ids of its worker processes."""
        return [] if self.process is None else [pid for pid in _children(self.process.pid) if _is_worker(pid)]

    def events(self) -> list[dict[str, Any]]:
        """All that it logged."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        found = []
        for line in lines:
            with suppress(json.JSONDecodeError):  # a line that was being written as it was killed
                found.append(json.loads(line))
        return found


class Fleet:
    """All daemons of a round. A thread starts those again that have ended."""

    def __init__(self, dumpers: list[Dumper]) -> None:
        self.members = [Member(dumper) for dumper in dumpers]
        self.unexpected: Counter[int] = Counter()
        """Exit codes that a daemon should not have had."""
        self.late: list[str] = []
        """Daemons that did not end in time, and what they logged last."""
        self._stop = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="keeper", daemon=True)

    @property
    def is_any_frozen(self) -> bool:
        return any(member.is_frozen for member in self.members)

    def start(self) -> None:
        self._keeper.start()

    def stop(self) -> None:
        """SIGTERM to all, and a deadline."""
        self._stop.set()
        self._keeper.join()
        for member in self.members:
            member.signal(signal.SIGCONT)
            member.signal(signal.SIGTERM)
        for member in self.members:
            if member.process is None:
                continue
            try:
                self._note(member.process.wait(_STOP_SECONDS))
            except subprocess.TimeoutExpired:
                self.late.append(f"{member.dumper.directory.name} did not end: {member.events()[-6:]}")
                member.process.kill()

    def _keep(self) -> None:
        while not self._stop.wait(0.1):
            for member in self.members:
                with member.lock:
                    if member.process is not None and member.process.poll() is None:
                        continue
                    if member.process is not None:
                        self._note(member.process.returncode)
                        member.process = None
                        member.may_start_at = max(member.may_start_at, time.monotonic() + _RESTART_SECONDS)
                    if time.monotonic() >= member.may_start_at:
                        member.start()

    def _note(self, code: int) -> None:
        if code not in _EXPECTED:
            self.unexpected[code] += 1


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):  # it ended meanwhile
        for task in (Path("/proc") / str(pid) / "task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def _is_worker(pid: int) -> bool:
    with suppress(OSError):
        return b"spawn_main" in (Path("/proc") / str(pid) / "cmdline").read_bytes()
    return False


def kill(pid: int) -> bool:
    """SIGKILL. False if it was gone."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True
