"""Waiting for a condition with a deadline, for what tells nobody when it happens."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(condition: Callable[[], T], timeout: float = 60.0, interval: float = 0.02) -> T:
    """The first true answer of `condition`, asked every `interval` seconds. Fails after `timeout` seconds.

    A condition that raises `AssertionError` is false; the last of those is what the failure shows.
    """
    pause = threading.Event()
    deadline = time.monotonic() + timeout
    while True:
        reason: AssertionError | None = None
        try:
            answer = condition()
        except AssertionError as error:
            reason = error
        else:
            if answer:
                return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"still not so after {timeout:g} s: {reason or condition}") from reason
        pause.wait(interval)
