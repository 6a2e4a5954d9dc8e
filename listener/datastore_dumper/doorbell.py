"""Hears the doorbell: LISTEN on a connection of its own. A ring means "look", never what for; a lost one costs two seconds.

After every (re)connect it rings by itself, since nobody knows what was missed meanwhile.
"""

from __future__ import annotations

import threading
import time

from datastore_dumper.database import Connection, Database
from datastore_dumper.deadline import Deadline
from datastore_dumper.lifecycle import keep_connected
from datastore_dumper.logs import get_logger
from datastore_dumper.monitor import metrics
from datastore_dumper.monitor.pings import INTERVAL_SECONDS, Pings, is_ping
from datastore_dumper.sqlfiles import query

log = get_logger(__name__)

_ANSWER_SECONDS = 5  # for LISTEN, and for a sign of life
# After so long without a notification, not even one of our own pings, the connection is asked for a sign of life.
_SILENCE_SECONDS = INTERVAL_SECONDS + _ANSWER_SECONDS
_STOP_CHECK_SECONDS = 0.5  # how long the wait for notifications goes on after `stop`

# Triggers ring at most every 250 ms (sql/install/1_functions.sql): a change within that time of a ring is silent, so
# after a ring there is a second look.
THROTTLE_SECONDS = 0.3


class Bell:
    """What the daemon's main loop waits on. Rings are not counted; one that nobody waits for is kept."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._rung = False
        self._echo_at: float | None = None

    def ring(self) -> None:
        """Wake the waiter now."""
        with self._condition:
            self._rung = True
            self._condition.notify_all()

    def ring_with_echo(self) -> None:
        """Wake the waiter now and once more after the triggers' throttle interval."""
        with self._condition:
            self._rung = True
            self._echo_at = time.monotonic() + THROTTLE_SECONDS
            self._condition.notify_all()

    def wait(self, timeout_seconds: float) -> bool:
        """Wait for a ring, an echo or the timeout: True unless it was the timeout."""
        deadline = time.monotonic() + timeout_seconds
        with self._condition:
            while True:
                now = time.monotonic()
                if self._echo_at is not None and now >= self._echo_at:
                    self._echo_at = None
                    self._rung = True
                if self._rung:
                    self._rung = False
                    return True
                if now >= deadline:
                    return False
                until = deadline if self._echo_at is None else min(deadline, self._echo_at)
                self._condition.wait(until - now)


def listen(database: Database, bell: Bell, pings: Pings, stop: threading.Event) -> None:
    """Ring `bell` for every notification until `stop` is set. Reconnects by itself."""

    def work(connection: Connection) -> None:
        with Deadline(connection, _ANSWER_SECONDS):
            connection.execute(query("listen"))
        bell.ring()
        pings.listening(True)
        log.info("listening")
        try:
            hear(connection)
        finally:
            pings.listening(False)

    def hear(connection: Connection) -> None:
        heard = time.monotonic()
        while not stop.is_set():
            for notification in connection.notifies(timeout=_STOP_CHECK_SECONDS, stop_after=1):
                heard = time.monotonic()
                if is_ping(notification.payload):
                    pings.heard(notification.payload)
                else:
                    metrics.NOTIFICATIONS.inc()
                    bell.ring_with_echo()
            if time.monotonic() - heard >= _SILENCE_SECONDS:
                with Deadline(connection, _ANSWER_SECONDS):
                    connection.execute(query("ping"))
                heard = time.monotonic()

    keep_connected(database, "listen", stop, work)
