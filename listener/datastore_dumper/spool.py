"""Where segments wait between Postgres and the storage: private temporary files, so that slow storage holds no table lock.

A directory belongs to one process and is locked by it (flock(2), of the directory itself: whoever cleans temporary files up
takes away what is in it). Those of processes that were killed are removed by the next one.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from datastore_dumper.errors import ConfigError
from datastore_dumper.logs import get_logger

log = get_logger(__name__)

_NAME = "datastore-dumper-spool-"
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class SegmentFile:
    """A fresh segment in a spool file: the buckets from `first` to `last` (None: no bound), `length` in bytes."""

    first: int | None
    last: int | None
    path: Path
    rows: int
    length: int
    sha256: str


@contextmanager
def spool_directory(parent: Path | None) -> Iterator[Path]:
    """A fresh directory with mode 0700 under `parent` (default: the system's temporary directory), removed at the end.

    Raises `ConfigError` if it cannot be made.
    """
    root = parent or Path(tempfile.gettempdir())
    try:
        _remove_abandoned(root)
        directory, lock = _make_locked(root)
    except OSError as error:
        raise ConfigError(
            f"export.spool_directory: cannot make a directory in {root}: {error.strerror}",
            hint="Name a directory that this user may write to; `datastore-dumper check` says how much room it should have.",
        ) from error
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(lock)


def _make_locked(root: Path) -> tuple[Path, int]:
    """Locked before it gets the name by which others look for abandoned ones. The lock is held while it is open."""
    unnamed = Path(tempfile.mkdtemp(prefix=".datastore-dumper-", dir=root))
    lock = os.open(unnamed, _OPEN)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return unnamed.rename(root / (_NAME + unnamed.name.rsplit("-", 1)[1])), lock


def _remove_abandoned(root: Path) -> None:
    for directory in root.glob(f"{_NAME}*"):
        try:
            lock = os.open(directory, _OPEN)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(directory)
            finally:
                os.close(lock)
        except (BlockingIOError, FileNotFoundError):
            continue  # in use, or removed by another one
        except OSError as error:
            log.warning("spool_kept", directory=str(directory), error=str(error))
