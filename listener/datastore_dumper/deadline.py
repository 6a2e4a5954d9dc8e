"""Deadlines for blocking calls on a connection: a peer that went silent must not hold a thread for ever.

libpq's own timeouts end at the TCP layer, and a proxy that accepts and forwards nothing keeps TCP content. So a timer
shuts the socket down, and the call that waits on it fails like on any broken connection.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from types import TracebackType

import psycopg
from typing_extensions import Self

from datastore_dumper.database import Connection


class Deadline:
    """`with Deadline(connection, 5): connection.execute(...)` fails within about 5 seconds, and breaks the connection."""

    def __init__(self, connection: Connection, seconds: float) -> None:
        self._connection = connection
        self._seconds = seconds
        self._over = threading.Event()
        self._expires = 0.0

    def extend(self) -> None:
        """Start the time anew: there was progress. Cheap enough to call for every block."""
        self._expires = time.monotonic() + self._seconds

    def __enter__(self) -> Self:
        self.extend()
        threading.Thread(target=self._watch, name="deadline", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()

    def _watch(self) -> None:
        while (remaining := self._expires - time.monotonic()) > 0:
            if self._over.wait(remaining):
                return
        if not self._over.is_set():  # it may have ended while this thread, or the machine, had a rest
            shut_down(self._connection)


def shut_down(connection: Connection) -> None:
    """End a connection that another thread waits for."""
    try:
        duplicate = socket.socket(fileno=os.dup(connection.fileno()))
    except (OSError, psycopg.Error):
        return  # closed already
    with duplicate:
        try:
            duplicate.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # disconnected already
