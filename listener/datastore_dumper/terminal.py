"""What is drawn on a terminal and taken away again, whenever a signal comes."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Protocol, TypeVar

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_MOST_KEPT = 2


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
    gate = _SignalGate()
    try:
        gate.stand()
        try:
            display.start()
        except BaseException:
            with suppress(Exception):  # of what had not begun: the first error says what is wrong
                display.stop()
            raise
        gate.open()
        yield display
    finally:
        gate.shut()
        try:
            display.stop()
        finally:
            gate.leave()
    gate.deliver()  # if it is not over anyway


class _SignalGate:
    """Stands before the handlers of signals that end a command. Shut, it keeps what comes until it is opened; but not more than
    two, because a terminal that takes no output would hold everything up.

    Handlers are the main thread's: elsewhere it does nothing. Signals that are ignored (nohup) stay ignored.
    """

    def __init__(self) -> None:
        self._is_shut = True
        self._is_gone = False
        self._kept: list[int] = []
        in_main = threading.current_thread() is threading.main_thread()
        found = {number: signal.getsignal(number) for number in _SIGNALS if in_main}
        self._former = {number: handler for number, handler in found.items() if callable(handler)}

    def stand(self) -> None:
        for number in self._former:
            signal.signal(number, self._handle)

    def open(self) -> None:
        self._is_shut = False
        self.deliver()

    def shut(self) -> None:
        self._is_shut = True

    def leave(self) -> None:
        """Put the handlers back. One that raises meanwhile leaves the others in place, and the gate out of their way."""
        self._is_gone = True
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def deliver(self) -> None:
        """What was kept, to the handlers."""
        while self._kept:
            number = self._kept.pop(0)
            self._is_shut = True
            self._former[signal.Signals(number)](number, None)
            self._is_shut = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._is_shut and not self._is_gone and len(self._kept) < _MOST_KEPT:
            self._kept.append(number)
            return
        self._is_shut = True  # what this raises is the end of the display, which the next one must not break off
        self._former[signal.Signals(number)](number, frame)
        self._is_shut = False
