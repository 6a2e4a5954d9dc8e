"""Calls a URL after each healthy round, for a service that raises the alarm when the calls stay away (a dead man's switch).

The URL is a secret: whoever has it can keep the alarm quiet. It is in no message.
"""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from http.client import HTTPException

from datastore_dumper import __version__
from datastore_dumper.logs import get_logger
from datastore_dumper.monitor import metrics

log = get_logger(__name__)

_TIMEOUT_SECONDS = 10


class Heartbeat:
    """Calls `url`, in a thread of its own: who is called may be slow or away, and must hold nobody up."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._due = threading.Event()

    def beat(self) -> None:
        """A round was healthy."""
        self._due.set()

    def run(self, stop: threading.Event) -> None:
        """Call the URL for each beat, until `stop` is set and `beat` is called once more. Beats meanwhile are one."""
        while True:
            self._due.wait()
            self._due.clear()
            if stop.is_set():
                return
            error = self._call()
            metrics.HEARTBEATS.labels("ok" if error is None else "failed").inc()
            if error is not None:
                log.warning("heartbeat_failed", error=error)

    def _call(self) -> str | None:
        """What went wrong, if anything did."""
        request = urllib.request.Request(self._url, headers={"User-Agent": f"datastore-dumper/{__version__}"})  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response:  # noqa: S310 - http(s), by the model
                response.read(1024)
        except urllib.error.HTTPError as error:
            with error:
                return f"the answer was {error.code}"
        except urllib.error.URLError as error:
            reason = error.reason
            return str(reason.strerror or reason) if isinstance(reason, OSError) else type(reason).__name__
        except OSError as error:
            return error.strerror or type(error).__name__
        except (HTTPException, ValueError) as error:
            return type(error).__name__  # their texts quote the URL
        return None
