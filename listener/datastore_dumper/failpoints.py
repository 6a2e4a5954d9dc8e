"""Places where a test may have this process die, fail or wait. They do nothing unless the environment names them.

`DUMPER_TEST_FAILPOINTS` holds `name=action`, several with commas between. Worker processes inherit it. Actions:

    kill        SIGKILL to this process: as a crash, the OOM killer or a power cut would have it
    exit        os._exit: the process is gone without any `finally`, but buffers of the kernel are kept
    raise       an exception that nobody expects
    pause:DIR   make the file DIR/name and wait until DIR/name.release is there
    note:DIR    append a line to DIR/name and go on

`kill@3` acts the third time that this process comes by, and from then on. `worker/name=kill` acts in worker processes
alone, `daemon/name=kill` never there.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

VARIABLE = "DUMPER_TEST_FAILPOINTS"
EXIT_CODE = 99
"""Of the action `exit`."""

NAMES = (
    # Leases: worker, lease
    "before_claim", "after_claim", "before_renew", "after_renew", "before_release", "after_release",
    # The snapshot and its segments: export. Large tables come by in worker processes, small ones in the daemon.
    "before_snapshot", "after_snapshot", "before_segment", "within_segment", "after_segment",
    # The object: assemble, and both storages
    "before_announce", "after_announce", "before_part", "after_part", "before_complete", "after_complete",
    # Publishing: the transaction, just before its commit, and after it
    "before_publish", "within_publish", "after_publish",
    # Objects that nobody points to: selected and locked, deleted from the storage, forgotten
    "before_garbage", "within_garbage", "after_garbage",
    # The reconciler, just before its commit; each table that is given triggers
    "within_reconcile", "before_attach", "after_attach",
)  # fmt: skip

_POLL_SECONDS = 0.02


class FailpointError(Exception):
    """What the action `raise` raises: no error of ours, so that nobody handles it on purpose."""


def parse(text: str, *, in_worker: bool) -> dict[str, str]:
    """Actions of this process by name. Raises `ValueError` for what does not exist: a test would pass for nothing."""
    actions = {}
    for item in filter(None, text.split(",")):
        place, _, action = item.partition("=")
        scope, _, name = place.rpartition("/")
        if name not in NAMES or scope not in {"", "daemon", "worker"}:
            raise ValueError(f"{VARIABLE}: there is no failpoint {place!r}")
        kind = action.partition("@")[0].partition(":")[0]
        if kind not in {"kill", "exit", "raise", "pause", "note"}:
            raise ValueError(f"{VARIABLE}: there is no action {action!r}")
        if not scope or (scope == "worker") == in_worker:
            actions[name] = action
    return actions


_actions: Mapping[str, str] = {}
_passed: Counter[str] = Counter()


def arm() -> bool:
    """From here on they count: checks at the start come by some of them, too. True if the environment names any."""
    global _actions
    # A spawned process imports this before it knows that it has a parent.
    _actions = parse(os.environ.get(VARIABLE, ""), in_worker=multiprocessing.parent_process() is not None)
    return bool(_actions)


def failpoint(name: str) -> None:
    """Do what the environment says for this place: nothing."""
    if _actions:
        _act(name)


def _act(name: str) -> None:
    action, _, number = _actions.get(name, "").partition("@")
    _passed[name] += 1
    if not action or _passed[name] < int(number or 1):
        return
    kind, _, argument = action.partition(":")
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif kind == "exit":
        os._exit(EXIT_CODE)
    elif kind == "raise":
        raise FailpointError(name)
    elif kind == "note":
        with (Path(argument) / name).open("a") as file:
            file.write(f"{os.getpid()}\n")
    else:
        _pause(Path(argument) / name)


def _pause(mark: Path) -> None:
    mark.touch()
    release = mark.with_name(f"{mark.name}.release")
    while not release.exists():
        time.sleep(_POLL_SECONDS)  # whoever releases may be any process, in any language, so a file is asked for
