"""A terminal is left as it was found, whenever a signal comes."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from collections.abc import Iterator

import pytest
from rich.console import Console
from rich.live import Live
from rich.progress import Progress

from datastore_dumper.terminal import drawn

ENTERED, LEFT = "\x1b[?1049h", "\x1b[?1049l"
HIDDEN, SHOWN = "\x1b[?25l", "\x1b[?25h"


class Screen(io.StringIO):
    """A terminal that sends this process a signal when `word` is written to it; rich has then not noted what it has done."""

    def __init__(self, word: str, number: int) -> None:
        super().__init__()
        self._word, self._number = word, number

    def write(self, text: str) -> int:
        written = super().write(text)
        if self._word in text:
            os.kill(os.getpid(), self._number)
        return written


@pytest.fixture
def exits() -> Iterator[None]:
    """Signals raise, as they do in commands."""
    numbers = signal.SIGTERM, signal.SIGHUP, signal.SIGINT
    former = {number: signal.getsignal(number) for number in numbers}
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in former.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("exits")
@pytest.mark.parametrize("word", [ENTERED, HIDDEN, "hello", SHOWN, LEFT])
@pytest.mark.parametrize(
    ("number", "raised"),
    [(signal.SIGTERM, SystemExit), (signal.SIGHUP, SystemExit), (signal.SIGINT, KeyboardInterrupt)],
)
def test_a_screen_is_left(word: str, number: int, raised: type[BaseException]) -> None:
    screen = Screen(word, number)
    console = Console(file=screen, force_terminal=True, width=40, height=10)
    with pytest.raises(raised), drawn(Live(console=console, screen=True, auto_refresh=False)) as live:
        live.update("hello", refresh=True)
    written = screen.getvalue()
    assert written.count(ENTERED) == written.count(LEFT) == 1
    assert written.rindex(SHOWN) > written.rindex(HIDDEN)
    assert not console.is_alt_screen


@pytest.mark.usefixtures("exits")
@pytest.mark.parametrize("word", [HIDDEN, "hello", SHOWN])
def test_the_cursor_of_bars_comes_back(word: str) -> None:
    screen = Screen(word, signal.SIGTERM)
    bars = Progress(console=Console(file=screen, force_terminal=True, width=40, height=10), auto_refresh=False)
    bars.add_task("hello")
    former = sys.stdout
    with pytest.raises(SystemExit), drawn(bars):
        bars.refresh()
    assert screen.getvalue().rindex(SHOWN) > screen.getvalue().rindex(HIDDEN)
    assert sys.stdout is former


class Struck(Live):
    """Signals come before it has done anything to stop."""

    def __init__(self, *numbers: int, screen: io.StringIO) -> None:
        console = Console(file=screen, force_terminal=True, width=40, height=10)
        super().__init__(console=console, screen=True, auto_refresh=False)
        self._numbers = list(numbers)

    def stop(self) -> None:
        while self._numbers:
            os.kill(os.getpid(), self._numbers.pop(0))
        super().stop()


@pytest.mark.usefixtures("exits")
@pytest.mark.parametrize("count", [1, 2])
def test_a_signal_does_not_break_off_what_takes_the_screen_away(count: int) -> None:
    screen = io.StringIO()
    with pytest.raises(SystemExit), drawn(Struck(*[signal.SIGTERM] * count, screen=screen)):
        pass
    assert screen.getvalue().count(ENTERED) == screen.getvalue().count(LEFT) == 1


@pytest.mark.usefixtures("exits")
def test_two_signals_at_once() -> None:
    """The first ends the block, the second comes before the screen is taken away."""
    screen = io.StringIO()
    with pytest.raises(SystemExit), drawn(Struck(signal.SIGINT, screen=screen)):
        os.kill(os.getpid(), signal.SIGTERM)
    assert screen.getvalue().count(ENTERED) == screen.getvalue().count(LEFT) == 1


@pytest.mark.usefixtures("exits")
def test_a_terminal_that_takes_nothing_holds_up_only_so_long() -> None:
    """Nobody has to send more than three."""

    class Stuck(Live):
        def stop(self) -> None:
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)
            raise AssertionError("it would wait for ever")

    with pytest.raises(KeyboardInterrupt), drawn(Stuck(console=Console(file=io.StringIO(), force_terminal=True))):
        pass


@pytest.mark.usefixtures("exits")
def test_what_cannot_be_drawn_says_why() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    with (
        pytest.raises(OSError, match="Input/output error"),
        drawn(Live(console=Console(file=Gone(), force_terminal=True))),
    ):
        pytest.fail("it is not drawn")


@pytest.mark.usefixtures("exits")
def test_signals_that_are_ignored_stay_so() -> None:
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with drawn(Live(console=Console(file=io.StringIO(), force_terminal=True), auto_refresh=False)):
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, former)


def test_elsewhere_than_in_the_main_thread() -> None:
    """Only the main thread may set handlers, and only it is interrupted."""
    screen = io.StringIO()

    def draw() -> None:
        with drawn(Live("hello", console=Console(file=screen, force_terminal=True), screen=True, auto_refresh=False)):
            pass

    thread = threading.Thread(target=draw)
    thread.start()
    thread.join()
    assert screen.getvalue().count(ENTERED) == screen.getvalue().count(LEFT) == 1


@pytest.mark.usefixtures("exits")
def test_handlers_are_put_back() -> None:
    former = signal.getsignal(signal.SIGTERM)
    with drawn(Live(console=Console(file=io.StringIO(), force_terminal=True), auto_refresh=False)):
        assert signal.getsignal(signal.SIGTERM) is not former
    assert signal.getsignal(signal.SIGTERM) is former
