"""Shows whether notifications flow: the daemon notifies itself now and then, from another session than the one that listens.

A ping goes the way of the triggers' rings: same channel, same queue, same pooler. That it comes back also shows that the
listening connection lives. Nothing depends on it, for the daemon looks every two seconds in any case.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from typing import Literal

from datastore_dumper.database import Connection
from datastore_dumper.logs import get_logger
from datastore_dumper.monitor import metrics
from datastore_dumper.sqlfiles import query

log = get_logger(__name__)

NotifyState = Literal["unknown", "flowing", "silent", "off"]
NOTIFY_STATES: tuple[NotifyState, ...] = ("unknown", "flowing", "silent", "off")

INTERVAL_SECONDS = 10
"""Between pings: with the notifications of the triggers every 250 ms at the most, these cost writers nothing."""

_PATIENCE_SECONDS = 5  # for a ping to come back
_MARK = "ping "


def is_ping(payload: str) -> bool:
    """Whether a notification is some daemon's ping, and not the ring of a trigger."""
    return payload.startswith(_MARK)


class Pings:
    """The pings of one daemon: sent by the thread that looks, heard by the one that listens."""

    def __init__(self, tell: Callable[[NotifyState], None]) -> None:
        """`tell` is told the state at each change."""
        self._tell = tell
        self._lock = threading.Lock()
        self._state: NotifyState = "unknown"
        self._listening = False
        self._payload = ""
        """Of the ping that is on its way; empty if there is none."""
        self._sent_at = float("-inf")

    def listening(self, is_listening: bool) -> None:
        """LISTEN was done, or its connection is gone: a ping on its way tells nothing any more."""
        with self._lock:
            self._listening = is_listening
            self._payload = ""
            self._sent_at = float("-inf")

    def send_if_due(self, connection: Connection) -> None:
        """Send a ping if it is time for one, and notice the last one if it did not come back."""
        now = time.monotonic()
        with self._lock:
            overdue = bool(self._payload) and now - self._sent_at > _PATIENCE_SECONDS
            if overdue:
                self._payload = ""
            is_due = self._listening and now - self._sent_at >= INTERVAL_SECONDS
            if is_due:
                payload = self._payload = _MARK + secrets.token_hex(8)
                self._sent_at = now
        if overdue:
            self._enter("silent")
        if is_due:
            sent = connection.execute(query("notify_self"), {"payload": payload}).fetchone()
            if sent is not None and sent[0]:
                self._forget()
                self._enter("off")

    def heard(self, payload: str) -> None:
        """A ping arrived; whether it is ours is for us to know."""
        with self._lock:
            if payload != self._payload:
                return
            self._payload = ""
            seconds = time.monotonic() - self._sent_at
        metrics.NOTIFY_ROUND_TRIP.observe(seconds)
        self._enter("flowing")

    def _forget(self) -> None:
        with self._lock:
            self._payload = ""

    def _enter(self, state: NotifyState) -> None:
        with self._lock:
            if state == self._state:
                return
            former, self._state = self._state, state
        self._tell(state)
        if state == "silent":
            log.warning("notify_silent", note="changes are seen at the next look; see `datastore-dumper check`")
        elif former != "unknown":
            log.info("notify_flowing" if state == "flowing" else "notify_off")
