"""Whether the storage has the files that links are made to. Asked seldom: a link costs no traffic, a dead one a user."""

from __future__ import annotations

import time
from collections import OrderedDict

from datastore_dumper.errors import ObjectChangedError, StorageUnavailableError
from datastore_dumper.storage.base import Storage

# While the storage is away nobody waits for it again: CKAN's own dump answers meanwhile.
AWAY_SECONDS = 10
# A process that hands out more files than these within one period asks again for some.
MAX_REMEMBERED = 10_000


class StorageWatch:
    """What one process knows of one storage. Threads may share it."""

    def __init__(self, storage: Storage, period_seconds: int) -> None:
        """A file that was found is not looked for again within the period; 0: never looked for."""
        self._storage = storage
        self._period = period_seconds
        self._found: OrderedDict[str, float] = OrderedDict()
        self._away_until = 0.0

    def expect(self, key: str, length: int) -> None:
        """Raises `StorageError` unless the storage has the object with that many bytes, as far as is known."""
        if not self._period:
            return
        now = time.monotonic()
        if now < self._away_until:
            raise StorageUnavailableError("the storage did not answer a moment ago")
        if now < self._found.get(key, 0.0):
            return
        try:
            stored = self._storage.stat(key)
        except StorageUnavailableError:
            self._away_until = time.monotonic() + AWAY_SECONDS
            raise
        if stored.length != length:
            raise ObjectChangedError(f"{key} has {stored.length} bytes in the storage, not {length}")
        self._found[key] = now + self._period
        while len(self._found) > MAX_REMEMBERED:
            try:
                self._found.popitem(last=False)
            except KeyError:  # another thread has emptied it
                break
