"""Says to the daemon that somebody who may have a table asked for its file, where files are kept on demand.

Most requests cost nothing: a process looks into what is decided for a table once in a minute, and what is to be noted is
noted once in an hour. Asking is an act on behalf of visitors, so it goes by CKAN's write engine and its role, like other
acts of CKAN; a visitor's own queries (datastore_search_sql) run as the read role, which may not ask.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from ckanext.datastore_dumper.overview import ask, choice
from datastore_dumper.errors import DumperError

log = logging.getLogger(__name__)

LOOK_SECONDS = 60
_MOST = 10_000  # tables that are remembered


class Demand:
    """What this process knows of who asked for what. One for each process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._looked: dict[str, float] = {}

    def note(self, resource_id: str, explain: Callable[[DumperError], str]) -> None:
        """Somebody whom CKAN allows it asks for a file. Trouble is logged: he gets a dump all the same."""
        now = self._clock()
        if now - self._looked.get(resource_id, float("-inf")) < LOOK_SECONDS:
            return
        if len(self._looked) >= _MOST:
            self._looked.clear()
        self._looked[resource_id] = now
        try:
            decided = choice(resource_id)
            if decided is not None and decided.is_worth_asking:
                ask(resource_id)
        except DumperError as error:
            log.warning("%r is not asked for: %s", resource_id, explain(error))
