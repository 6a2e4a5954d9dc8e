"""What the disk storage asks of the operating system: copy, sync, walk, name temporary files, and errors as ours.
Knows nothing of keys' places; `disk` does."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import io
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from datastore_dumper.errors import (
    ConfigError,
    DumperError,
    ObjectMissingError,
    PermissionDeniedError,
    StorageError,
    StorageUnavailableError,
)
from datastore_dumper.storage.keys import is_key

_TEMPORARY = ".datastore-dumper-"
_COPY_BYTES = 1 << 26  # a call; what it copied is on its way to the device while the next one copies
_PLAIN_COPY_BYTES = 1 << 20
# What copy_file_range(2) answers where the file system or an old kernel cannot do it.
_NO_COPY_RANGE = {errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM, errno.EBADF, errno.ETXTBSY}
# The root of an ext4 file system has it, and only root may read it.
_FOREIGN = "lost+found"
_SYNC_FILE_RANGE_WRITE = 2  # fcntl.h
_sync_file_range = getattr(ctypes.CDLL(None), "sync_file_range", None)
if _sync_file_range is not None:
    _sync_file_range.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]


def temporary_prefix(name: str) -> str:
    """How the names of temporary files for an object's file `name` start. No part of a key starts with a dot."""
    return f"{_TEMPORARY}{hashlib.sha256(name.encode()).hexdigest()[:32]}-"


def temporary_name(name: str) -> str:
    return temporary_prefix(name) + secrets.token_hex(8)


def is_temporary(name: str) -> bool:
    return name.startswith(_TEMPORARY)


def write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def copy_range(source: int, target: int, offset: int, length: int, name: str) -> None:
    """Append `length` bytes of the descriptor `source` from `offset` to `target`, by the file system where it can
    (copy_file_range(2): shared extents on XFS and Btrfs, no traffic on NFS 4.2). `name` is for the message."""
    end = offset + length
    while offset < end and hasattr(os, "copy_file_range"):
        try:
            copied = os.copy_file_range(source, target, min(end - offset, _COPY_BYTES), offset)
        except OSError as error:
            if error.errno not in _NO_COPY_RANGE:
                raise
            break
        if not copied:
            break  # the end of the file, or a file system that says so wrongly: the plain copy finds out
        _start_writing_out(target, copied)
        offset += copied
    while offset < end:
        data = os.pread(source, min(end - offset, _PLAIN_COPY_BYTES), offset)
        if not data:
            raise StorageError(f"{name} ends at byte {offset}, expected {end}")
        write_all(target, data)
        _start_writing_out(target, len(data))
        offset += len(data)


def _start_writing_out(descriptor: int, length: int) -> None:
    """Have the kernel begin to write the bytes before the file's position to the device, and do not wait for it
    (sync_file_range(2); Linux). So the disk works while more is read, and the fsync at the end, which alone makes
    anything durable, has little left to do."""
    if _sync_file_range is not None:
        end = os.lseek(descriptor, 0, os.SEEK_CUR)
        _sync_file_range(descriptor, end - length, length, _SYNC_FILE_RANGE_WRITE)


def sync_directory(directory: Path) -> None:
    """Make the entries of a directory durable: fsync of a file does not (fsync(2))."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def walk(directory: Path, above: str, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Key and entry of the temporary files and of all that can be an object below `directory`, whose own key is
    `above`; only keys that start with `prefix`. In the order of the keys' bytes: a directory sorts as with a slash."""
    try:
        entries = list(os.scandir(directory))
    except FileNotFoundError:  # deleted since
        return
    found = [
        (above + entry.name, entry, entry.is_dir(follow_symlinks=False))
        for entry in entries
        if (is_key(entry.name) or is_temporary(entry.name)) and entry.name != _FOREIGN
    ]
    for key, entry, is_directory in sorted(found, key=lambda item: (item[0] + "/" * item[2]).encode()):
        if is_directory:
            if (key + "/").startswith(prefix) or prefix.startswith(key + "/"):
                yield from walk(Path(entry.path), key + "/", prefix)
        elif key.startswith(prefix) and entry.is_file(follow_symlinks=False):
            yield key, entry


class FileRange(io.RawIOBase):
    """At most `length` bytes of a file from `offset`; owns the file."""

    def __init__(self, file: io.FileIO, offset: int, length: int | None) -> None:
        super().__init__()
        self._file = file
        self._left = length
        file.seek(offset)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        window = memoryview(buffer)
        if self._left is not None:
            window = window[: self._left]
        count = self._file.readinto(window) or 0
        if self._left is not None:
            self._left -= count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


@contextlib.contextmanager
def disk_errors(directory: Path, what: str, *, writing: bool = False) -> Iterator[None]:
    """Errors of the operating system as ours. `what` was touched, in the storage `directory`."""
    try:
        yield
    except DumperError:
        raise
    except OSError as error:
        message = f"{what} in storage.disk.directory {directory}: {error.strerror or error}"
        if error.errno in {errno.ENOENT, errno.ENOTDIR} and not writing:
            raise ObjectMissingError(f"there is no {what} in storage.disk.directory {directory}") from error
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise PermissionDeniedError(
                message,
                hint=f"Give {directory} to the user or a group of the process "
                f"(uid {os.geteuid()}), or mount it writable.",
            ) from error
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise StorageUnavailableError(message, hint=f"Free space on the file system of {directory}.") from error
        if error.errno in {errno.ENAMETOOLONG, errno.ELOOP}:
            raise ConfigError(message, hint="Choose a directory with a shorter path and no loop of links.") from error
        raise StorageError(message) from error
