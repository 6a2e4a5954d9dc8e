"""A Redis server in memory, reached over a socket that only this user can open."""

from __future__ import annotations

import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from datastore_dumper.demo.child import start_child, stop_child
from tests.support.waiting import eventually


@contextmanager
def redis_server(program: Path) -> Iterator[str]:
    """URL of database 0 of a new server."""
    # Not below pytest's directory: a socket's path has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="dumper-redis-") as directory:
        path = Path(directory) / "redis.sock"
        log = Path(directory) / "redis.log"
        settings = {"port": "0", "unixsocket": str(path), "dir": directory, "save": "", "appendonly": "no"}
        argv: list[str | Path] = [program, *(word for name, value in settings.items() for word in (f"--{name}", value))]
        with log.open("ab") as output:
            process = start_child(argv, output=output)

        def answers() -> bool:
            assert process.poll() is None, f"redis-server ended: {log.read_text()}"
            with socket.socket(socket.AF_UNIX) as client:
                try:
                    client.connect(str(path))
                except OSError:
                    return False
                client.sendall(b"PING\r\n")
                return client.recv(16) == b"+PONG\r\n"

        try:
            eventually(answers)
            yield f"unix://{path}?db=0"
        finally:
            stop_child(process, ((signal.SIGTERM, 10.0),))
