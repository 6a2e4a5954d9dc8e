"""Objects as files below a directory. Who may have them, and how they are sent, is the plugin's.

An object appears whole or not at all (temporary file in the same directory, fsync, link), is never overwritten, and
survives a power cut once `write` has returned (fsync of the file and of every directory that changed).
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import secrets
import stat as stat_module
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime, timezone
from pathlib import Path
from typing import BinaryIO

from datastore_dumper.errors import ConfigError, ObjectChangedError, ObjectMissingError, StorageError
from datastore_dumper.failpoints import failpoint
from datastore_dumper.storage.base import (
    CHECK_PREFIX,
    BytesPart,
    ObjectHeaders,
    Part,
    ReusePart,
    StoredObject,
    WrittenObject,
)
from datastore_dumper.storage.disk_files import (
    FileRange,
    copy_range,
    disk_errors,
    is_temporary,
    sync_directory,
    temporary_name,
    temporary_prefix,
    walk,
    write_all,
)
from datastore_dumper.storage.keys import MARK_NAME, check_key
from datastore_dumper.storage.settings import DiskSettings

# Whatever the umask. The web server reads by the group; setgid on the directory of the settings hands its group down.
_DIRECTORY_MODE = 0o750
_FILE_MODE = 0o640
# A concurrent delete may take a new, still empty directory away; it has no reason to do so for long.
_DIRECTORY_TRIES = 20
# What link(2) answers on a file system without hard links.
_NO_LINK = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP}


class DiskStorage:
    """`Storage` on a file system. Has no links: the plugin sends the file that `path_of` names."""

    def __init__(self, settings: DiskSettings) -> None:
        self.settings = settings
        self._directory = settings.directory
        if not settings.directory.is_absolute():
            raise ConfigError(
                f"storage.disk.directory {str(settings.directory)!r} is a relative path",
                hint="Give the absolute path: the daemon and CKAN run in different directories.",
            )

    def check(self) -> list[str]:
        name = f"{CHECK_PREFIX}{secrets.token_hex(8)}"
        first, second = f"{name}/first", f"{name}/second"
        content = secrets.token_bytes(64)
        headers = ObjectHeaders("application/octet-stream", "check")
        try:
            written = self.write(first, [BytesPart(content)], headers)
            self.write(second, [ReusePart(first, written.etag, 0, len(content))], headers)
            with self.open(second) as stream:
                if stream.read() != content:
                    raise StorageError(f"storage.disk.directory {self._directory}: bytes read are not those written")
        finally:
            self.delete(first)
            self.delete(second)
        return []

    def write(self, key: str, parts: Iterable[Part], headers: ObjectHeaders) -> WrittenObject:
        """Refuses to overwrite: `StorageError` if there is an object under `key`. `headers` are not kept: the plugin
        makes them anew."""
        del headers
        source = iter(parts)
        try:
            path = self._locate(key)
            with self._errors(key, writing=True):
                descriptor, temporary = self._create(path)
            complete = False
            try:
                uploaded, reused = self._fill(key, descriptor, source)
                with self._errors(key, writing=True):
                    os.fsync(descriptor)
                    failpoint("before_complete")
                    _publish(temporary, path, key)
                    failpoint("after_complete")
                    self._sync_up(path.parent)
                complete = True
            finally:
                os.close(descriptor)
                temporary.unlink(missing_ok=True)
                if not complete:
                    with self._errors(key, writing=True):
                        self._remove_empty(path.parent)
            return self._verified(key, path, uploaded, reused)
        finally:
            close = getattr(source, "close", None)
            if close is not None:
                close()

    def stat(self, key: str) -> StoredObject:
        path = self.path_of(key)
        with self._errors(key):
            return _stored_object(key, path.stat())

    def open(self, key: str, *, offset: int = 0, length: int | None = None) -> BinaryIO:
        path = self.path_of(key)
        with self._errors(key):
            return io.BufferedReader(FileRange(io.FileIO(path), offset, length))

    def link(self, key: str, headers: ObjectHeaders, expires_seconds: int) -> str | None:
        del key, headers, expires_seconds
        return None

    def path_of(self, key: str) -> Path:
        """The object's file, for a web server to send. Raises `ObjectMissingError`, and `StorageError` if a symbolic
        link leads out of the directory (CWE-59)."""
        path = self._locate(key)
        with self._errors(key):
            if not stat_module.S_ISREG(path.stat().st_mode):
                raise ObjectMissingError(f"there is no object {key!r} in {self._directory}: it is not a regular file")
        return path

    def delete(self, key: str) -> None:
        path = self._locate(key)
        mark = temporary_prefix(path.name)
        with self._errors(key, writing=True), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            with contextlib.suppress(IsADirectoryError):
                path.unlink(missing_ok=True)
            for entry in list(os.scandir(path.parent)):
                if entry.name.startswith(mark):
                    Path(entry.path).unlink(missing_ok=True)
            self._remove_empty(path.parent)

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        with self._errors("the listing"):
            for key, entry in walk(self._root(), "", prefix):
                if not is_temporary(entry.name):
                    with contextlib.suppress(FileNotFoundError):  # deleted since
                        yield _stored_object(key, entry.stat(follow_symlinks=False))

    def read_mark(self) -> bytes | None:
        try:
            with self._errors("mark"):
                return (self._root() / MARK_NAME).read_bytes()
        except ObjectMissingError:
            return None

    def write_mark(self, data: bytes, *, replace: bool) -> None:
        path = self._root() / MARK_NAME
        with self._errors("the mark", writing=True):
            descriptor, temporary = self._create(path)
            try:
                write_all(descriptor, data)
                os.fsync(descriptor)
                if replace:
                    temporary.replace(path)
                else:
                    _publish(temporary, path, MARK_NAME)
                self._sync_up(path.parent)
            finally:
                os.close(descriptor)
                temporary.unlink(missing_ok=True)

    def sweep(self, before: datetime, *, dry_run: bool = False) -> int:
        removed = 0
        with self._errors("the temporary files", writing=True):
            for _, entry in walk(self._root(), "", ""):
                if not is_temporary(entry.name):
                    continue
                with contextlib.suppress(FileNotFoundError):  # its writer has finished
                    if entry.stat(follow_symlinks=False).st_mtime < before.timestamp():
                        if not dry_run:
                            Path(entry.path).unlink()
                            self._remove_empty(Path(entry.path).parent)
                        removed += 1
        return removed

    def _errors(self, what: str, *, writing: bool = False) -> AbstractContextManager[None]:
        return disk_errors(self._directory, what, writing=writing)

    def _root(self) -> Path:
        """The directory itself may be a symbolic link: that is the operator's."""
        root = Path(os.path.realpath(self._directory))
        missing = False
        with self._errors("the directory"):
            try:
                missing = not stat_module.S_ISDIR(root.stat().st_mode)
            except FileNotFoundError:
                missing = True
        if missing:
            raise ConfigError(
                f"storage.disk.directory {self._directory} does not exist or is not a directory",
                hint="Create it, or mount what it is on, and give it to the user the daemon runs as.",
            )
        return root

    def _locate(self, key: str) -> Path:
        """Where the object is, or would be."""
        root = self._root()
        path = root / check_key(key)
        if os.path.commonpath([root, os.path.realpath(path)]) != str(root):
            raise StorageError(
                f"the object {key!r} leads out of storage.disk.directory {self._directory} by a symbolic link",
                hint="Nothing of the storage is a symbolic link: remove it, and find out who made it.",
            )
        return path

    def _create(self, path: Path) -> tuple[int, Path]:
        """A temporary file beside `path`, open for writing."""
        temporary = path.with_name(temporary_name(path.name))
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        for _ in range(_DIRECTORY_TRIES):
            self._make_parents(path)
            with contextlib.suppress(FileNotFoundError):
                descriptor = os.open(temporary, flags, 0o600)
                os.fchmod(descriptor, _FILE_MODE)
                return descriptor, temporary
        raise StorageError(f"the directory of {path} is removed again and again while an object is written there")

    def _make_parents(self, path: Path) -> None:
        """The missing directories above `path`, with their mode and the setgid bit they inherit."""
        root, missing, directory = self._root(), [], path.parent
        while directory != root and not directory.exists():
            missing.append(directory)
            directory = directory.parent
        for directory in reversed(missing):
            # Another writer was first, or a delete took it away again.
            with contextlib.suppress(FileExistsError, FileNotFoundError):
                directory.mkdir()
                mode = stat_module.S_IMODE(directory.stat().st_mode)
                wanted = _DIRECTORY_MODE | mode & stat_module.S_ISGID
                if mode != wanted:  # setting the setgid bit, even again, is refused under systemd's RestrictSUIDSGID=
                    directory.chmod(wanted)

    def _fill(self, key: str, descriptor: int, source: Iterator[Part]) -> tuple[int, int]:
        """Bytes written and bytes reused. An error of `source` itself goes through as it is."""
        uploaded = reused = 0
        for part in source:
            failpoint("before_part")
            if isinstance(part, ReusePart):
                self._reuse(key, part, descriptor)
                reused += part.length
                failpoint("after_part")
                continue
            with self._errors(key, writing=True):
                if isinstance(part, BytesPart):
                    write_all(descriptor, part.data)
                else:
                    with part.open() as file:
                        copy_range(file.fileno(), descriptor, part.offset, part.length, str(part.path))
            uploaded += part.length
            failpoint("after_part")
        return uploaded, reused

    def _reuse(self, key: str, part: ReusePart, descriptor: int) -> None:
        path = self.path_of(part.key)
        with self._errors(part.key):
            file = io.FileIO(path)
        with file, self._errors(key, writing=True):
            found = _stored_object(part.key, os.fstat(file.fileno()))
            if found.etag != part.etag or part.offset + part.length > found.length:
                raise ObjectChangedError(
                    f"the object {part.key!r} has etag {found.etag} and {found.length} bytes, "
                    f"expected {part.etag} and at least {part.offset + part.length}"
                )
            copy_range(file.fileno(), descriptor, part.offset, part.length, part.key)

    def _verified(self, key: str, path: Path, uploaded: int, reused: int) -> WrittenObject:
        stored = self.stat(key)
        if stored.length != uploaded + reused:
            path.unlink(missing_ok=True)
            raise StorageError(f"the object {key!r} has {stored.length} bytes, {uploaded + reused} were written")
        return WrittenObject(key, stored.length, stored.etag, uploaded, reused)

    def _sync_up(self, directory: Path) -> None:
        """All directories down to the object, whoever made them: another writer may not have come to it yet."""
        root = self._root()
        while directory != root:
            sync_directory(directory)
            directory = directory.parent
        sync_directory(root)

    def _remove_empty(self, directory: Path) -> None:
        """Remove the directory and those above it as far as they are empty, and make that durable. rmdir is atomic: a
        directory where a writer has made its temporary file stays, and a writer that loses its directory before that
        makes it again."""
        root = self._root()
        while directory != root:
            try:
                directory.rmdir()
            except FileNotFoundError:
                pass
            except OSError:  # not empty, or a mount point
                break
            directory = directory.parent
        with contextlib.suppress(FileNotFoundError):
            sync_directory(directory)


def _publish(temporary: Path, path: Path, key: str) -> None:
    """link(2) fails where rename(2) would overwrite."""
    taken = ObjectChangedError(f"there is an object {key!r} already, and objects are never overwritten")
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise taken from None
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        # Keys are unguessable, so nobody comes between these two lines.
        if path.exists():
            raise taken from None
        temporary.rename(path)
    else:
        temporary.unlink(missing_ok=True)


def _stored_object(key: str, status: os.stat_result) -> StoredObject:
    """The object behind a file.

    The etag is size, modification time (ns) and inode number. Objects are never changed in place, so this tells apart
    what matters: another file under the key (restored, copied, replaced). A hash of the content would read again what
    a shared extent has just saved us from reading. After a restore from a backup the etag differs, and the next dump is
    made afresh.
    """
    return StoredObject(
        key,
        status.st_size,
        f"{status.st_size:x}-{status.st_mtime_ns:x}-{status.st_ino:x}",
        datetime.fromtimestamp(status.st_mtime, timezone.utc),
    )
