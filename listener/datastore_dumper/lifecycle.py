"""How long-running parts live: side tasks that are supervised, loops that reconnect, signals that stop.

A side task that ends with an error takes the daemon down with it; a broken connection is no such error, but is made anew
with growing, jittered pauses.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import psycopg
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_when_event_set, wait_random_exponential
from tenacity.nap import sleep_using_event

from datastore_dumper.database import Connection, Database, explain
from datastore_dumper.errors import ConfigError, DumperError, UnavailableError
from datastore_dumper.logs import get_logger
from datastore_dumper.monitor import metrics

log = get_logger(__name__)

PASSING = (UnavailableError, ConfigError)
"""What may pass by itself while a daemon runs: it began with a database that was in order."""

_RECONNECT_MAX_SECONDS = 30
_RECONNECT_FIRST_SECONDS = 0.5


class Supervisor:
    """Runs side tasks in threads. `stop` is set when the daemon shall end: by a signal, or by the first task that fails."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.failure: BaseException | None = None
        self._threads: list[threading.Thread] = []
        self._on_stop: list[Callable[[], None]] = []

    def start(self, name: str, task: Callable[[], None]) -> None:
        """Run `task` until it returns, which it does once `stop` is set."""
        thread = threading.Thread(target=self._run, args=(name, task), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def on_stop(self, wake: Callable[[], None]) -> None:
        """Call `wake` when stopping, to end a wait."""
        self._on_stop.append(wake)

    def shut_down(self) -> None:
        """Set `stop` and wake everybody. Safe to call again, and from a signal handler."""
        self.stop.set()
        for wake in self._on_stop:
            wake()

    def fail(self, error: BaseException) -> None:
        """Stop because of an error that nobody handled; the first one is what the daemon ends with."""
        if self.failure is None:
            self.failure = error
        self.shut_down()

    def join(self, timeout_seconds: float) -> None:
        """Wait for the tasks to return, for so long at the most: one that a silent server keeps waiting has nothing to lose."""
        deadline = time.monotonic() + timeout_seconds
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0))

    def _run(self, name: str, task: Callable[[], None]) -> None:
        try:
            task()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the daemon must not run on without this task
            log.error("task_failed", task=name, error=str(error))  # noqa: TRY400 - the command line shows it
            self.fail(error)


def keep_connected(
    database: Database,
    purpose: str,
    stop: threading.Event,
    work: Callable[[Connection], None],
    turned: Callable[[], None] = lambda: None,
) -> None:
    """Call `work` with a connection until `stop` is set; when the connection breaks, make another and call it again. A database
    that is gone, or lacks our tables, may be being restored: that is waited for like a server that is away.

    `turned` is called before each attempt to connect: a loop that cannot get on is not one that is stuck.
    """
    pause_seconds = _RECONNECT_FIRST_SECONDS
    while not stop.is_set():
        connection = _connect(database, purpose, stop, turned)
        if connection is None:
            return
        began = time.monotonic()
        with connection:
            try:
                work(connection)
            except psycopg.Error as error:
                explained = explain(error)
                if not (isinstance(explained, PASSING) or connection.broken or connection.closed):
                    raise explained from error
                metrics.CONNECTIONS_LOST.labels(purpose).inc()
                log.warning("connection_lost", purpose=purpose, error=explained.message)
                with suppress(psycopg.Error):
                    connection.close()
                if time.monotonic() - began > _RECONNECT_MAX_SECONDS:  # it had worked
                    pause_seconds = _RECONNECT_FIRST_SECONDS
                else:
                    pause_seconds = min(2 * pause_seconds, _RECONNECT_MAX_SECONDS)
                turned()
                stop.wait(pause_seconds)


def _connect(database: Database, purpose: str, stop: threading.Event, turned: Callable[[], None]) -> Connection | None:
    def failed(state: RetryCallState) -> None:
        metrics.CONNECTING_FAILED.labels(purpose).inc()
        error = None if state.outcome is None else state.outcome.exception()
        reason = error.message if isinstance(error, DumperError) else str(error)
        log.warning("connecting_failed", purpose=purpose, attempts=state.attempt_number, error=reason)

    for attempt in Retrying(
        retry=retry_if_exception_type(PASSING),
        wait=wait_random_exponential(multiplier=_RECONNECT_FIRST_SECONDS, max=_RECONNECT_MAX_SECONDS),
        stop=stop_when_event_set(stop),
        sleep=sleep_using_event(stop),
        before=lambda state: turned(),
        before_sleep=failed,
        retry_error_callback=lambda _: None,
    ):
        with attempt:
            return database.connect(purpose)
    return None


@contextmanager
def stop_signals(first: Callable[[], None], second: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and SIGINT call `first`, and if they come again `second`; so does SIGHUP, the end of a terminal, unless it is ignored
    (nohup). The former handlers are put back at the end."""
    received = 0

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal received
        received += 1
        # Not here: events and conditions take locks, and the thread that this interrupts may be holding one of them.
        threading.Thread(target=first if received == 1 else second, name="stop", daemon=True).start()

    numbers = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    former = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


@contextmanager
def hangup_signal(reload: Callable[[], None]) -> Iterator[None]:
    """SIGHUP calls `reload`, in a thread of its own. The former handler is put back at the end."""

    def handle(number: int, frame: FrameType | None) -> None:
        threading.Thread(target=reload, name="reload", daemon=True).start()

    former = signal.signal(signal.SIGHUP, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, former)
