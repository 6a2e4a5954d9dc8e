"""Ctrl-C and SIGTERM as an exception that clean-up survives. What is cleaned up is the caller's."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(KeyboardInterrupt):
    """A signal asked us to end. Not an `Exception`, like what it derives from: nobody but the outermost caller handles it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number  # as shells report it


class Interruption:
    """Raises `Interrupted` for the first signal, once; later ones are ignored, so that they cannot break off the clean-up."""

    def __init__(self) -> None:
        self._received: int | None = None
        self._raised = False
        self._deferring = False

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Handle signals in this block, in the main thread. Those that are ignored (nohup) stay ignored."""
        former = {number: signal.getsignal(number) for number in _SIGNALS}
        for number, handler in former.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, self._handle)
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Raise at the end of this block, not within: for a step that must not be left half done."""
        self._deferring = True
        try:
            yield
        finally:
            self._deferring = False
        self._raise()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._received is None:
            self._received = number
        if not self._deferring:
            self._raise()

    def _raise(self) -> None:
        if self._received is not None and not self._raised:
            self._raised = True
            raise Interrupted(self._received)
