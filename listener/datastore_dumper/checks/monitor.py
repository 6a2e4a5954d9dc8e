"""What a running daemon says of its own health, if it can be asked (monitor.listen)."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException

from datastore_dumper.checks.results import Result, Subject, failed, ok, warning
from datastore_dumper.errors import EXIT_UNAVAILABLE

_ANSWER_SECONDS = 5
_ANSWER_BYTES = 64 * 1024


def health(subject: Subject) -> Iterator[Result]:
    """Its answer to /readyz."""
    listen = subject.config.monitor.listen
    if listen is None:
        return
    host, _, port = listen.rpartition(":")
    reachable = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)  # noqa: S104 - as configured
    address = f"http://{reachable}:{port}/readyz"
    try:
        answer = json.loads(_get(address))
        status, reasons = answer["status"], [str(reason["message"]) for reason in answer["reasons"]]
    except (OSError, HTTPException) as error:
        mend = "Start the daemon; after a change of monitor.listen, start it anew."
        yield warning("daemon.health", f"no daemon answers at {address}: {_reason(error)}", mend)
        return
    except (ValueError, KeyError, TypeError):
        mend = "Another program listens there: give monitor.listen another port."
        yield warning("daemon.health", f"what answers at {address} is no daemon of ours", mend)
        return
    found = "; ".join(reasons) or "it says that all is well"
    mend = "The daemon's log says more."
    if status == "unready":
        yield failed("daemon.health", found, mend, EXIT_UNAVAILABLE)
    elif status == "degraded":
        yield warning("daemon.health", found, mend)
    else:
        yield ok("daemon.health", found)


def _get(address: str) -> bytes:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # it is this machine's own
    try:
        with opener.open(address, timeout=_ANSWER_SECONDS) as response:
            body: bytes = response.read(_ANSWER_BYTES)
    except urllib.error.HTTPError as error:
        with error:
            body = error.read(_ANSWER_BYTES)  # 503 says why
    return body


def _reason(error: Exception) -> str:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    return str(getattr(reason, "strerror", None) or reason)
