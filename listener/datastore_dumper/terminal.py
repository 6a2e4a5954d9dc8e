"""What is drawn on a terminal and taken away again, also if a signal comes while it is being set up or taken down."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol, TypeVar

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Display(Protocol):
    """What rich's `Live` and `Progress` have in common. `stop` of one that was not started does nothing."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


DisplayT = TypeVar("DisplayT", bound=Display)


@contextmanager
def drawn(display: DisplayT) -> Iterator[DisplayT]:
    """The display while the block runs; afterwards the terminal's cursor and screen are as they were.

    In place of `with display:`, which a signal leaves half done: the screen is another or the cursor is hidden, and the display
    does not know of it yet.
    """
    try:
        with _signals_wait():
            display.start()
        yield display
    finally:
        try:
            with _signals_wait():
                display.stop()
        finally:
            display.stop()  # for a signal that came before they waited; the second time it does nothing


@contextmanager
def _signals_wait() -> Iterator[None]:
    """Signals that come in this block are handled at its end. They are the main thread's: in others nothing is to be done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)

    former = {number: handler for number in _SIGNALS if callable(handler := signal.getsignal(number))}
    try:
        for number in former:
            signal.signal(number, note)
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        for missed in came:
            signal.raise_signal(missed)
