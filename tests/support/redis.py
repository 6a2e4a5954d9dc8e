"""A Redis server in memory, reached over a socket that only this user can open."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from datastore_dumper.demo.child import start_child, stop_child
from datastore_dumper.demo.private_directory import PrivateDirectory
from tests.support.waiting import eventually


@contextmanager
def redis_server(program: Path) -> Iterator[str]:
    """URL of database 0 of a new server."""
    # Not below pytest's directory: a socket's path has at most 107 bytes.
    with closing(PrivateDirectory.make("datastore-dumper-redis-", None)) as private:
        path = private.path / "redis.sock"
        log = private.path / "redis.log"
        settings = {"port": "0", "unixsocket": str(path), "dir": str(private.path), "save": "", "appendonly": "no"}
        argv: list[str | Path] = [program, *(word for name, value in settings.items() for word in (f"--{name}", value))]
        with log.open("ab") as output:
            process = start_child(argv, output=output, pass_fds=[private.lock_fd])

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
