"""Whether the storage has the files that links are made to. Asked seldom: a link costs no traffic, a dead one a user."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from datastore_dumper.errors import ConfigError, ObjectChangedError, StorageUnavailableError
from datastore_dumper.storage.base import Storage

# A process that hands out more files than these within one period asks again for some.
MAX_REMEMBERED = 10_000


def away_seconds(waited: float) -> float:
    """How long nobody asks the storage again after it has failed: CKAN's own dump answers meanwhile. One that let
    somebody wait for so many seconds is given so much time that a process spends a tenth of its own on waiting."""
    return max(10.0, 9 * waited)


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
        with self.asking():
            now = time.monotonic()
            if now < self._found.get(key, 0.0):
                return
            stored = self._storage.stat(key)
            if stored.length != length:
                raise ObjectChangedError(f"{key} has {stored.length} bytes in the storage, not {length}")
        self._found[key] = now + self._period
        while len(self._found) > MAX_REMEMBERED:
            try:
                self._found.popitem(last=False)
            except KeyError:  # another thread has emptied it
                break

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Around whatever the storage, or who gives credentials for it, is asked. Raises `StorageUnavailableError` if
        it was away not long ago. An object that is missing, or forbidden (S3 says so of a missing one to who may not
        list the bucket), says nothing of others."""
        began = time.monotonic()
        if began < self._away_until:
            raise StorageUnavailableError("the storage did not answer a moment ago")
        try:
            yield
        except (StorageUnavailableError, ConfigError):
            now = time.monotonic()
            self._away_until = now + away_seconds(now - began)
            raise
