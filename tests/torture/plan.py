"""What is done to the daemons, and when: a pure function of seed, seconds and daemons. Same seed, same plan."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

Storage = Literal["disk", "s3"]

# Of every kind of fault: its weight, and how long it lasts at least and at most, in seconds.
_COMMON: dict[str, tuple[int, float, float]] = {
    "kill": (6, 0.2, 3),  # SIGKILL; started again after so long
    "terminate": (2, 0.2, 2),  # SIGTERM, likewise
    "kill_worker": (3, 0, 0),  # SIGKILL to a worker process
    "freeze": (4, 1, 9),  # SIGSTOP, also beyond the lease
    "cut": (3, 0, 0),  # the connections to Postgres
    "refuse": (2, 0.5, 4),
    "silence": (2, 0.5, 6),  # connections are accepted, nothing is forwarded
    "delay": (2, 1, 5),
    "deaf": (3, 2, 8),  # notifications are lost
    "end_session": (3, 0, 0),  # pg_terminate_backend
    "crash_postgres": (1, 0, 0),  # as by a power cut
    "clean_spool": (1, 0, 0),  # a cleaner of temporary files takes the spool away
}
_OF_STORAGE: dict[Storage, dict[str, tuple[int, float, float]]] = {
    "disk": {"disk_full": (3, 0.5, 3)},
    "s3": {
        "s3_internal_error": (2, 1, 5),
        "s3_slow_down": (2, 1, 5),
        "s3_forbidden": (2, 0.5, 3),
        "s3_lost_answers": (3, 1, 5),
        "s3_truncated_bodies": (2, 1, 5),
        "s3_completed_with_error": (2, 1, 5),
    },
}
_PAUSE_SECONDS = (0.4, 2.5)  # between two of them; they overlap


@dataclass(frozen=True)
class Action:
    """One fault. Times in seconds, `at` from the start of the round."""

    at: float
    kind: str
    daemon: int
    """Whose, where it is one daemon's."""
    lasts: float
    share: float
    """Of the requests that it hits, where it hits requests; also which one of several it picks. From 0 to 1."""


def make_plan(seed: int, seconds: float, daemons: int, storage: Storage) -> tuple[Action, ...]:
    """The faults of a round. The first second and the last three are left in peace."""
    dice = random.Random(f"{seed} {seconds} {daemons} {storage}")
    kinds = {**_COMMON, **_OF_STORAGE[storage]}
    actions = []
    at = 1.0
    while at < seconds - 3:
        kind = dice.choices(list(kinds), [weight for weight, _, _ in kinds.values()])[0]
        _, least, most = kinds[kind]
        action = Action(
            at=round(at, 2),
            kind=kind,
            daemon=dice.randrange(daemons),
            lasts=round(dice.uniform(least, most), 2),
            share=round(dice.uniform(0.1, 1), 2),
        )
        actions.append(action)
        at += dice.uniform(*_PAUSE_SECONDS)
    return tuple(actions)
