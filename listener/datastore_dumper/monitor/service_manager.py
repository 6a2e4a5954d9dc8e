"""Tells the service manager how the daemon is (sd_notify(3), systemd.service(5) Type=notify): one datagram for each message.

Without $NOTIFY_SOCKET nobody listens, and nothing is sent. A manager that cannot be told is no reason to stop working.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

from datastore_dumper.logs import get_logger

log = get_logger(__name__)

_SEND_SECONDS = 1  # a manager whose queue is full gets the next one


class ServiceManager:
    """What may be told, in the words of the protocol. Any thread may."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self._status = ""

    def ready(self, status: str) -> None:
        """Started, or done with reloading."""
        self._status = status
        self._send("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """Reading the configuration again; `ready` ends it."""
        # The time tells this reload's messages from those of another (Type=notify-reload of systemd 253).
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self, seconds: float) -> None:
        """Ending, which may take so long (the manager's own limit counts if that is later)."""
        self._send("STOPPING=1", f"EXTEND_TIMEOUT_USEC={int(seconds * 1_000_000)}")

    def alive(self) -> None:
        """For a manager that restarts us when it has not heard this for too long."""
        self._send("WATCHDOG=1")

    def status(self, status: str) -> None:
        """A line for `systemctl status`, if it is another than before."""
        if status != self._status:
            self._status = status
            self._send(f"STATUS={status}")

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
                manager.settimeout(_SEND_SECONDS)
                manager.connect(self._address)
                manager.send("\n".join(lines).encode())
        except OSError as error:
            log.warning("service_manager_unreachable", error=str(error))


def _address(name: str) -> str:
    """The socket's, where a leading @ stands for the null byte of an abstract one; empty if there is none that we know."""
    if name.startswith("@"):
        return f"\0{name[1:]}"
    return name if name.startswith("/") else ""
