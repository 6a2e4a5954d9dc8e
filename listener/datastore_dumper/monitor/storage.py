"""A storage that counts: time and errors of each operation, bytes sent and bytes reused. All else is the storage's own."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import BinaryIO

from datastore_dumper.errors import (
    ConfigError,
    DumperError,
    ObjectChangedError,
    ObjectMissingError,
    PermissionDeniedError,
    StorageError,
    StorageUnavailableError,
)
from datastore_dumper.monitor import metrics
from datastore_dumper.storage.base import ObjectHeaders, Part, Storage, StoredObject, WrittenObject

_KINDS: tuple[tuple[type[DumperError], str], ...] = (
    (StorageUnavailableError, "unavailable"),
    (ObjectMissingError, "missing"),
    (ObjectChangedError, "changed"),
    (PermissionDeniedError, "denied"),
    (ConfigError, "config"),
    (StorageError, "other"),
)


class MeteredStorage:
    """`Storage`, with metrics. Errors that are not the storage's, like those of whoever makes the parts, are not counted."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def check(self) -> list[str]:
        with _measured("check"):
            return self._storage.check()

    def write(self, key: str, parts: Iterable[Part], headers: ObjectHeaders) -> WrittenObject:
        with _measured("write"):
            written = self._storage.write(key, parts, headers)
        metrics.UPLOADED_BYTES.inc(written.uploaded_bytes)
        metrics.REUSED_BYTES.inc(written.reused_bytes)
        return written

    def stat(self, key: str) -> StoredObject:
        with _measured("stat"):
            return self._storage.stat(key)

    def open(self, key: str, *, offset: int = 0, length: int | None = None) -> BinaryIO:
        with _measured("open"):
            return self._storage.open(key, offset=offset, length=length)

    def link(self, key: str, headers: ObjectHeaders, expires_seconds: int) -> str | None:
        return self._storage.link(key, headers, expires_seconds)  # asks nobody

    def delete(self, key: str) -> None:
        with _measured("delete"):
            self._storage.delete(key)

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        with _measured("list"):
            yield from self._storage.list(prefix)

    def read_mark(self) -> bytes | None:
        with _measured("read_mark"):
            return self._storage.read_mark()

    def write_mark(self, data: bytes, *, replace: bool) -> None:
        with _measured("write_mark"):
            self._storage.write_mark(data, replace=replace)

    def sweep(self, before: datetime, *, dry_run: bool = False) -> int:
        with _measured("sweep"):
            return self._storage.sweep(before, dry_run=dry_run)


@contextmanager
def _measured(operation: str) -> Iterator[None]:
    started = time.monotonic()
    try:
        yield
    except DumperError as error:
        kind = next((kind for type_, kind in _KINDS if isinstance(error, type_)), None)
        if kind is not None:
            metrics.STORAGE_ERRORS.labels(operation, kind).inc()
        raise
    finally:
        metrics.STORAGE_DURATION.labels(operation).observe(time.monotonic() - started)
