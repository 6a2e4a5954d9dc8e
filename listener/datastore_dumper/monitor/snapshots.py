"""Since when this process holds snapshots in Postgres, which keep VACUUM from removing anything newer."""

from __future__ import annotations

import time

_held: dict[object, float] = {}


def holding() -> object:
    """A snapshot is held from now on, until what is returned is given to `let_go`."""
    token = object()
    _held[token] = time.monotonic()
    return token


def let_go(token: object) -> None:
    """It is not held any more."""
    del _held[token]


def count_and_age_seconds() -> tuple[int, float]:
    """How many are held, and for how long the oldest of them has been."""
    since = list(_held.values())
    return len(since), time.monotonic() - min(since) if since else 0.0
