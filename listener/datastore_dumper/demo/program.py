"""The real program, run as an operator would: its config file, `datastore-dumper install`, and the daemon with its log."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from datastore_dumper.demo.child import start_child, stop_child
from datastore_dumper.demo.datastore import DAEMON_ROLE, READ_ROLE, WRITE_ROLE
from datastore_dumper.errors import DumperError

QUIET_SECONDS = 2.0
_STOP = ((signal.SIGTERM, 20.0), (signal.SIGTERM, 5.0))  # twice: the second one breaks off exports
_INSTALL_SECONDS = 60
_LINES_SHOWN = 5


class Program:
    """Everything of the demo that is a file, in one directory: `config.yaml`, `daemon.log`, `files/` and `spool/`."""

    def __init__(self, directory: Path, dsn: str) -> None:
        self.config = directory / "config.yaml"
        self.log = directory / "daemon.log"
        self.files = directory / "files"
        self._directory = directory
        for path in (directory, self.files, directory / "spool"):
            path.mkdir(mode=0o700)
        self.config.write_text(yaml.safe_dump(self._settings(dsn), sort_keys=False), encoding="utf-8")
        self._daemon: subprocess.Popen[bytes] | None = None

    def _settings(self, dsn: str) -> Mapping[str, Any]:
        """An operator's, except that files go soon after they are superseded, and that the daemon looks more often."""
        return {
            "database": {"dsn": dsn},
            "roles": {"daemon": DAEMON_ROLE, "ckan_write": WRITE_ROLE, "ckan_read": READ_ROLE},
            "debounce": {"quiet_seconds": QUIET_SECONDS, "max_delay_seconds": 60},
            "look": {"interval_seconds": 1, "reconcile_interval_seconds": 2},
            "export": {"spool_directory": str(self._directory / "spool")},
            "lease": {"ttl_seconds": 4},
            "storage": {
                "type": "disk",
                "disk": {"directory": str(self.files)},
                "link_expiry_seconds": 1,
                "grace_seconds": 0,
            },
            "log": {"format": "json"},
            "shutdown_timeout_seconds": 15,
        }

    def install(self, superuser_dsn: str) -> None:
        """`datastore-dumper install`. Raises `DumperError` with what it said if it fails."""
        with (self._directory / "install.log").open("w+b") as output:
            process = self._start("install", "--dsn", superuser_dsn, output=output)
            try:
                status = process.wait(_INSTALL_SECONDS)
            except BaseException:
                stop_child(process, ((signal.SIGTERM, 5.0),))
                raise
            output.seek(0)
            if status != 0:
                raise DumperError(f"datastore-dumper install failed: {output.read().decode().strip()}")

    def start_daemon(self) -> None:
        """`datastore-dumper run`. Its log goes to the file `log`."""
        with self.log.open("ab") as output:
            self._daemon = self._start("run", output=output)

    def require_daemon(self) -> None:
        """Raise `DumperError` with the last lines of its log if the daemon has ended."""
        if self._daemon is not None and self._daemon.poll() is not None:
            lines = self.log.read_text(errors="replace").splitlines()[-_LINES_SHOWN:]
            raise DumperError(
                f"the daemon ended with code {self._daemon.returncode}; its log ends:\n" + "\n".join(lines)
            )

    def stop_daemon(self) -> int:
        """SIGTERM, and the exit code; 0 if it was not started."""
        if self._daemon is None:
            return 0
        stop_child(self._daemon, _STOP)
        status, self._daemon = self._daemon.returncode, None
        return status

    def events(self, name: str) -> list[dict[str, Any]]:
        """The log's events of that name."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        events = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]
        return [event for event in events if event["event"] == name]

    def _start(self, command: str, *arguments: str, output: Any) -> subprocess.Popen[bytes]:
        # Our own variables would override the config file, libpq's the connection string.
        env = {name: value for name, value in os.environ.items() if not name.startswith(("DATASTORE_DUMPER_", "PG"))}
        argv: list[str | Path] = [sys.executable, "-m", "datastore_dumper", command, "-c", self.config, *arguments]
        return start_child(argv, env=env, cwd=self._directory, output=output)
