"""Directories that belong to one server and are locked as long as any process of it lives, so that leftovers are known as such."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from datastore_dumper.demo.child import Account
from datastore_dumper.errors import ConfigError, PermissionDeniedError, UnavailableError

_LOCK = "lock"


@dataclass
class PrivateDirectory:
    """A directory of ours. Children that inherit `lock_fd` hold the lock too: flock(2) is one per open file description."""

    path: Path
    lock_fd: int
    temporary: bool

    @classmethod
    def make(cls, prefix: str, account: Account | None, base: Path | None = None) -> PrivateDirectory:
        """A new temporary one, where `account` can reach it. Those of earlier runs that were killed are swept away."""
        base = base or temporary_base(account)
        _sweep(base, prefix)
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=base))
        _open_to(path, account)
        # Locked before it gets the name that sweepers look for.
        fd = _lock(path / f".{_LOCK}")
        (path / f".{_LOCK}").rename(path / _LOCK)
        return cls(path, fd, temporary=True)

    @classmethod
    def at(cls, path: Path, account: Account | None) -> PrivateDirectory:
        """The one at `path`, made if need be; it stays after us. Refuses one that holds what is not ours."""
        path = path.absolute()
        above = next(parent for parent in path.parents if parent.is_dir())
        if account and not reachable(above, account, 0o1):
            raise ConfigError(
                f"directory {path} cannot be reached by user {account.name}, which the server runs as",
                hint="Name a directory below /var/tmp, or run as an ordinary user.",
            )
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            entries = os.listdir(path)  # noqa: PTH208 - names are all we want
            if entries and _LOCK not in entries:
                raise ConfigError(f"directory {path} is not empty", hint="Name a new directory.")
            _open_to(path, account)
            fd = _lock(path / _LOCK)
        except PermissionError as error:
            raise PermissionDeniedError(
                f"directory {path} cannot be used: {error.strerror}", hint="Name a directory that you may write to."
            ) from error
        except OSError as error:
            raise ConfigError(f"directory {path} cannot be used: {error.strerror}", hint="Name a directory.") from error
        return cls(path, fd, temporary=False)

    def close(self) -> None:
        """Let go of the lock; a temporary directory is removed."""
        if self.temporary:
            shutil.rmtree(self.path, ignore_errors=True)
        os.close(self.lock_fd)


def reachable(path: Path, account: Account, wanted: int = 0o5) -> bool:
    """Whether `account` has the `wanted` bits (rwx) on `path` and may pass the directories above it."""
    path = path.resolve()
    return _allowed(path, account, wanted) and all(_allowed(parent, account, 0o1) for parent in path.parents)


def _allowed(path: Path, account: Account, wanted: int) -> bool:
    status = path.stat()
    shift = 6 if status.st_uid == account.uid else 3 if status.st_gid == account.gid else 0
    return (status.st_mode >> shift) & wanted == wanted


def temporary_base(account: Account | None) -> Path:
    """Where temporary directories go: the usual place, or another one if `account` cannot reach it."""
    for candidate in (tempfile.gettempdir(), "/tmp", "/var/tmp"):  # noqa: S108 - only mkdtemp writes there
        path = Path(candidate)
        if path.is_dir() and os.access(path, os.W_OK | os.X_OK) and (account is None or reachable(path, account, 0o1)):
            return path
    raise UnavailableError("no usable directory for temporary files", hint="Set TMPDIR to one.")


def _open_to(path: Path, account: Account | None) -> None:
    """Private to us; `account` may pass through and read what is shown to its group, but change nothing."""
    if account is None:
        path.chmod(0o700)
    else:
        os.chown(path, 0, account.gid)
        path.chmod(0o750)


def _lock(path: Path) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise UnavailableError(
            f"directory {path.parent} is in use by a running server", hint="Stop it, or name another directory."
        ) from None
    return fd


def _sweep(base: Path, prefix: str) -> None:
    """Remove directories of earlier runs of this user that no process holds any more."""
    for path in base.glob(f"{prefix}*"):
        try:
            if path.is_symlink() or path.stat().st_uid != os.geteuid() or not (path / _LOCK).exists():
                continue
            fd = _lock(path / _LOCK)
        except (OSError, UnavailableError):
            continue  # removed by another sweeper, or in use
        shutil.rmtree(path, ignore_errors=True)
        os.close(fd)
