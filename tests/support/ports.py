"""Ports for servers that have to be told one."""

from __future__ import annotations

import itertools
import os
import socket

# Below those that Linux gives to clients, and to servers that let it choose (from 32768 on), and those of SeaweedFS: what is
# free stays free. Each process of pytest-xdist has a range of its own.
_FIRST = 11_000
_EACH = 800
_numbers = itertools.count(os.getpid())


def free_port() -> int:
    """A port that nobody listens at, and that nobody is given soon."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 10
    for _ in range(_EACH):
        port = _FIRST + worker * _EACH + next(_numbers) % _EACH
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError(f"no port of {_EACH} is free")
