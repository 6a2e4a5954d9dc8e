"""What a process and its children take while something runs: memory and space in a directory, at their peaks (Linux)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_EVERY_SECONDS = 0.1


@dataclass
class Usage:
    """Peaks of sums. `resident_bytes` counts pages that processes share in each of them, `proportional_bytes` once."""

    processes: int = 0
    resident_bytes: int = 0
    proportional_bytes: int = 0
    spool_bytes: int = 0


@contextmanager
def watched(pid: int, spool: Path) -> Iterator[Usage]:
    """Look ten times a second, during the block."""
    usage, stop = Usage(), threading.Event()

    def watch() -> None:
        while not stop.wait(_EVERY_SECONDS):
            _look(usage, pid, spool)

    _look(usage, pid, spool)
    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield usage
    finally:
        stop.set()
        thread.join()


def _look(usage: Usage, pid: int, spool: Path) -> None:
    sizes = [memory(each) for each in family(pid)]
    usage.processes = max(usage.processes, len(sizes))
    usage.resident_bytes = max(usage.resident_bytes, sum(resident for resident, _ in sizes))
    usage.proportional_bytes = max(usage.proportional_bytes, sum(proportional for _, proportional in sizes))
    usage.spool_bytes = max(usage.spool_bytes, _size(spool))


def family(pid: int) -> list[int]:
    """The process and all that descend from it, those that have ended and were not waited for, too."""
    found = [pid]
    for parent in found:
        with suppress(OSError):
            for children in Path(f"/proc/{parent}/task").glob("*/children"):
                found += map(int, children.read_text().split())
    return found


def memory(pid: int) -> tuple[int, int]:
    """Rss and Pss (proc(5), smaps_rollup); 0 for a process that has ended."""
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
        kilobytes = {line.split()[0]: int(line.split()[1]) for line in lines}
        return kilobytes["Rss:"] * 1024, kilobytes["Pss:"] * 1024
    return 0, 0


def _size(directory: Path) -> int:
    size = 0
    for path in directory.rglob("*"):
        with suppress(OSError):  # gone since
            size += path.stat().st_size
    return size
