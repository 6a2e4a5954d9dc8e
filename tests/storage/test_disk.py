"""What only the disk storage has: files, modes, links, races, and what the operating system refuses."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from datastore_dumper.errors import (
    ConfigError,
    ObjectChangedError,
    ObjectMissingError,
    PermissionDeniedError,
    StorageError,
    StorageUnavailableError,
)
from datastore_dumper.storage import disk_files
from datastore_dumper.storage.base import BytesPart, FilePart, ObjectHeaders, Part, ReusePart
from datastore_dumper.storage.disk import DiskStorage
from datastore_dumper.storage.settings import DiskSettings

HEADERS = ObjectHeaders("text/csv", "t.csv")
_NOBODY = 65534


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "storage"
    path.mkdir()
    return path


@pytest.fixture
def disk(directory: Path) -> DiskStorage:
    return DiskStorage(DiskSettings(directory))


def files(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def test_path_of(disk: DiskStorage, directory: Path) -> None:
    disk.write("t/1/t.csv", [BytesPart(b"content")], HEADERS)
    assert disk.path_of("t/1/t.csv") == directory / "t/1/t.csv"
    assert disk.path_of("t/1/t.csv").read_bytes() == b"content"
    assert disk.link("t/1/t.csv", HEADERS, 60) is None
    for missing in ("t/2/t.csv", "t/1", "t/1/t.csv/below"):
        with pytest.raises(ObjectMissingError):
            disk.path_of(missing)


def test_an_object_is_never_overwritten(disk: DiskStorage) -> None:
    disk.write("t/1/t.csv", [BytesPart(b"first")], HEADERS)
    with pytest.raises(StorageError, match="already"):
        disk.write("t/1/t.csv", [BytesPart(b"second")], HEADERS)
    assert disk.path_of("t/1/t.csv").read_bytes() == b"first"
    assert len(list(disk.path_of("t/1/t.csv").parent.iterdir())) == 1


@pytest.mark.parametrize("error", [errno.EPERM, errno.EOPNOTSUPP])
def test_file_systems_without_hard_links(disk: DiskStorage, monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    def refuse(source: object, target: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "link", refuse)
    disk.write("t/1/t.csv", [BytesPart(b"first")], HEADERS)
    with pytest.raises(StorageError, match="already"):
        disk.write("t/1/t.csv", [BytesPart(b"second")], HEADERS)
    assert disk.path_of("t/1/t.csv").read_bytes() == b"first"
    assert len(list(disk.path_of("t/1/t.csv").parent.iterdir())) == 1


def test_modes_do_not_depend_on_the_umask(disk: DiskStorage, directory: Path) -> None:
    directory.chmod(0o2755)
    before = os.umask(0o077)
    try:
        disk.write("t/1/t.csv", [BytesPart(b"content")], HEADERS)
    finally:
        os.umask(before)
    assert stat.S_IMODE((directory / "t/1/t.csv").stat().st_mode) == 0o640
    # setgid is inherited, and not taken away by our chmod
    assert stat.S_IMODE((directory / "t/1").stat().st_mode) == 0o2750
    assert stat.S_IMODE(directory.stat().st_mode) == 0o2755


def test_modes_let_the_group_read(disk: DiskStorage, directory: Path) -> None:
    disk.write("t/1/t.csv", [BytesPart(b"content")], HEADERS)
    assert stat.S_IMODE((directory / "t/1/t.csv").stat().st_mode) == 0o640
    assert stat.S_IMODE((directory / "t").stat().st_mode) == 0o750


@pytest.mark.parametrize("copy_range", [True, False], ids=["copy_file_range", "plain copy"])
def test_reuse_and_segments_are_copied_exactly(
    disk: DiskStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copy_range: bool
) -> None:
    if not copy_range:

        def refuse(*args: object) -> int:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

        monkeypatch.setattr(os, "copy_file_range", refuse)
    content = os.urandom(3_000_000)
    segment = tmp_path / "segment"
    segment.write_bytes(content)
    old = disk.write("t/1/t.csv", [FilePart(segment, 5, 2_000_000)], HEADERS)
    new = disk.write("t/2/t.csv", [ReusePart("t/1/t.csv", old.etag, 7, 1_500_000), BytesPart(b"tail")], HEADERS)
    assert disk.path_of("t/2/t.csv").read_bytes() == content[12:1_500_012] + b"tail"
    assert (new.uploaded_bytes, new.reused_bytes) == (4, 1_500_000)


def test_a_file_system_that_copies_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels before 5.19 answer 0 for some pseudo and FUSE files: that is not the end of the file."""
    monkeypatch.setattr(os, "copy_file_range", lambda *args: 0)
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"0123456789")
    with source.open("rb") as reader, target.open("wb") as writer:
        disk_files.copy_range(reader.fileno(), writer.fileno(), 2, 5, "source")
    assert target.read_bytes() == b"23456"


def test_the_etag_tells_a_replaced_file(disk: DiskStorage) -> None:
    written = disk.write("t/1/t.csv", [BytesPart(b"content")], HEADERS)
    path = disk.path_of("t/1/t.csv")
    times = path.stat()
    copy = path.with_name("copy")
    copy.write_bytes(b"CONTENT")
    os.utime(copy, ns=(times.st_atime_ns, times.st_mtime_ns))
    copy.replace(path)
    with pytest.raises(ObjectChangedError):
        disk.write("t/2/t.csv", [ReusePart("t/1/t.csv", written.etag, 0, 7)], HEADERS)


def test_reuse_beyond_the_end(disk: DiskStorage, directory: Path) -> None:
    written = disk.write("t/1/t.csv", [BytesPart(b"content")], HEADERS)
    with pytest.raises(ObjectChangedError, match="7 bytes"):
        disk.write("t/2/t.csv", [ReusePart("t/1/t.csv", written.etag, 5, 3)], HEADERS)
    assert files(directory) == ["t", "t/1", "t/1/t.csv"]


def test_symbolic_links_out_of_the_directory(disk: DiskStorage, directory: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (directory / "folder").symlink_to(outside)
    (directory / "file").symlink_to(outside / "secret")
    for key in ("folder/secret", "file"):
        for operation in (disk.path_of, disk.stat, disk.open, disk.delete):
            with pytest.raises(StorageError, match="symbolic link"):
                operation(key)
    with pytest.raises(StorageError, match="symbolic link"):
        disk.write("folder/new", [BytesPart(b"x")], HEADERS)
    with pytest.raises(StorageError, match="symbolic link"):
        disk.write("t", [ReusePart("folder/secret", "e", 0, 1)], HEADERS)
    assert list(disk.list()) == []
    assert [path.name for path in outside.iterdir()] == ["secret"]


def test_the_directory_may_be_a_symbolic_link_itself(directory: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(directory)
    disk = DiskStorage(DiskSettings(link))
    disk.write("t/1/t.csv", [BytesPart(b"content")], HEADERS)
    assert disk.path_of("t/1/t.csv").read_bytes() == b"content"


def test_list_shows_objects_alone(disk: DiskStorage, directory: Path) -> None:
    disk.write("t/1/t.csv", [BytesPart(b"content")], HEADERS)
    (directory / "lost+found").mkdir()
    (directory / ".snapshot").mkdir()
    (directory / ".snapshot/t.csv").touch()
    (directory / "t/1/.nfs0001").touch()
    (directory / "a\nb").touch()
    Path(os.fsdecode(os.fsencode(directory) + b"/\xff")).touch()
    (directory / "t/1/link").symlink_to("t.csv")
    os.mkfifo(directory / "t/1/fifo")
    assert [stored.key for stored in disk.list()] == ["t/1/t.csv"]


def test_delete_removes_emptied_directories(disk: DiskStorage, directory: Path) -> None:
    disk.write("t/1/t.csv", [BytesPart(b"content")], HEADERS)
    disk.write("t/2/t.csv", [BytesPart(b"content")], HEADERS)
    disk.delete("t/1/t.csv")
    assert files(directory) == ["t", "t/2", "t/2/t.csv"]
    disk.delete("t/2")  # a directory is no object
    disk.delete("t/2/t.csv")
    assert files(directory) == []


def test_writers_and_deletes_do_not_meet(disk: DiskStorage, directory: Path) -> None:
    """A delete may take the empty directory that a writer has just made."""

    def work(name: str) -> None:
        for number in range(150):
            disk.write(f"t/{name}{number}/t.csv", [BytesPart(b"x")], HEADERS)
            disk.delete(f"t/{name}{number}/t.csv")

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, "abcd", timeout=90))
    assert files(directory) == []


_KILLED = """
import os, signal, sys
from pathlib import Path
from datastore_dumper.storage.base import BytesPart, ObjectHeaders
from datastore_dumper.storage.disk import DiskStorage
from datastore_dumper.storage.settings import DiskSettings
def parts():
    yield BytesPart(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
DiskStorage(DiskSettings(Path(sys.argv[1]))).write("t/1/t.csv", parts(), ObjectHeaders("text/csv", "t.csv"))
"""


@pytest.fixture
def killed(directory: Path) -> Path:
    """What a writer of t/1/t.csv leaves that is killed in the middle."""
    subprocess.run([sys.executable, "-c", _KILLED, str(directory)], timeout=90)
    (left,) = (directory / "t/1").iterdir()
    assert left.read_bytes() == b"half"
    return left


def test_a_killed_writer_leaves_no_object(killed: Path, disk: DiskStorage) -> None:
    assert list(disk.list()) == []
    with pytest.raises(ObjectMissingError):
        disk.stat("t/1/t.csv")


def test_delete_removes_what_a_killed_writer_left(killed: Path, disk: DiskStorage, directory: Path) -> None:
    disk.delete("t/1/other.csv")
    assert killed.exists()
    disk.delete("t/1/t.csv")
    assert files(directory) == []


def test_sweep_removes_what_a_killed_writer_left(killed: Path, disk: DiskStorage, directory: Path) -> None:
    disk.write("t/2/t.csv", [BytesPart(b"content")], HEADERS)
    now = datetime.now(timezone.utc)
    assert disk.sweep(now - timedelta(hours=1)) == 0
    assert killed.exists()
    assert disk.sweep(now + timedelta(hours=1)) == 1
    assert files(directory) == ["t", "t/2", "t/2/t.csv"]


def test_sweep_leaves_a_write_under_way(disk: DiskStorage) -> None:
    def parts() -> Iterator[Part]:
        yield BytesPart(b"one ")
        assert disk.sweep(datetime.now(timezone.utc) - timedelta(minutes=5)) == 0
        yield BytesPart(b"two")

    disk.write("t/1/t.csv", parts(), HEADERS)
    assert disk.path_of("t/1/t.csv").read_bytes() == b"one two"


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    disk = DiskStorage(DiskSettings(tmp_path / "missing"))
    for operation in (disk.check, lambda: list(disk.list()), lambda: disk.stat("t"), lambda: disk.delete("t")):
        with pytest.raises(ConfigError, match=r"storage\.disk\.directory .*missing does not exist") as error:
            operation()
        assert "Create it" in error.value.hint
    assert not (tmp_path / "missing").exists()


def test_a_directory_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="not a directory"):
        DiskStorage(DiskSettings(tmp_path / "file")).check()


def test_a_file_where_a_directory_should_be(disk: DiskStorage, directory: Path) -> None:
    (directory / "t").touch()
    with pytest.raises(StorageError, match=r"storage\.disk\.directory"):
        disk.write("t/1/t.csv", [BytesPart(b"x")], HEADERS)
    disk.delete("t/1/t.csv")


@contextlib.contextmanager
def as_ordinary_user() -> Iterator[None]:
    if os.geteuid():
        yield
        return
    os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_directory_that_is_not_ours_to_write(disk: DiskStorage) -> None:
    # pytest's own directories can be entered by their owner alone.
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o555)
        with (
            as_ordinary_user(),
            pytest.raises(PermissionDeniedError, match=rf"storage\.disk\.directory {name}: Permission denied") as error,
        ):
            DiskStorage(DiskSettings(directory)).check()
        assert f"uid {_NOBODY if not os.getuid() else os.getuid()}" in error.value.hint
        directory.chmod(0o700)


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full")
def test_a_full_disk(disk: DiskStorage, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_open = os.open

    def open_full(path: object, flags: int, *args: object, **kwargs: object) -> int:
        if flags & os.O_CREAT:
            os.close(real_open(path, flags, *args, **kwargs))  # type: ignore[arg-type]
            return real_open("/dev/full", os.O_WRONLY)
        return real_open(path, flags, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", open_full)
    monkeypatch.setattr(os, "fchmod", lambda descriptor, mode: None)
    with pytest.raises(StorageUnavailableError, match="No space left") as error:
        disk.write("t/1/t.csv", [BytesPart(b"x")], HEADERS)
    assert "Free space" in error.value.hint
    assert files(directory) == []


def test_a_relative_directory_cannot_be_right() -> None:
    with pytest.raises(ConfigError, match=r"storage\.disk\.directory 'relative'"):
        DiskStorage(DiskSettings(Path("relative")))
