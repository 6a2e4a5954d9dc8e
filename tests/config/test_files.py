"""Files that are no configuration, and YAML in its odder forms."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from datastore_dumper.config import load, load_config
from tests.config.render import refusal

VALID = "database: {dsn: 'postgresql://h/d'}\nstorage: {type: disk, disk: {directory: /x}}\n"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", ": is empty\n"),
        (b"\n  \n", ": is empty\n"),
        (b"# only a comment\n", ": is empty\n"),
        (b"---\n...\n", ": is empty\n"),
        (b"~", ": is empty\n"),
        (b"[a, b]", ", line 1, column 1: is a list, not sections of settings\n"),
        (b"\n\n- a\n- b", ", line 3, column 1: is a list, not sections of settings\n"),
        (b"postgresql://u@h/d", ", line 1, column 1: is a single value, not sections of settings\n"),
        (b"\x7fELF\x02\x01\x01\x00\x00", ": is a binary file\n"),
        ("log:\n  level: info\n".encode("utf-16"), ": is a binary file\n"),
        (b"log:\n  level: \xe9\n", ", line 2: is not UTF-8\n"),
        (b"log:\n  level: \x07\n", ", line 2: holds a control character"),
        (b"log:\n\tlevel: info\n", ", line 2, column 1: is not YAML: "),
        (b"log: level: info\n", ", line 1, column 11: is not YAML: mapping values are not allowed here\n"),
        (
            b"log: {level: info\n",
            ", line 2, column 1: is not YAML: while parsing a flow mapping expected ',' or '}', but got",
        ),
        (b"log: 'info\n", ", line 2, column 1: is not YAML: "),
        (
            b"a: 1\n---\nb: 2\n",
            ", line 2, column 1: is not YAML: expected a single document in the stream but found an",
        ),
        (b"log: *x\n", ", line 1, column 6: is not YAML: found undefined alias\n"),
        (b"[" * 50_000, ": is nested too deeply"),
        (b"a: " + b"x" * 1024 * 1024, ": is longer than 1048576 bytes"),
        (b"? [a]\n: 1\n", ", line 1, column 3: a key must be a plain word"),
        (b"<<: {log: {level: info}}\n", ", line 1, column 1: << is not a setting\n"),
        (b"1: 2\n", ", line 1, column 1: 1 is not a setting\n"),
        ("lög:\n  level: info\n".encode(), ", line 1, column 1: lög is not a setting\nDid you mean log?"),
        (b'"a\\nb\\e[31m": 1\n', ", line 1, column 1: a?b?[31m is not a setting\n"),
        (b"&a log: &b {level: *b}\n", ", line 1, column 9: log.level must be one of debug, info, warning, error, not"),
        (b"k" * 500 + b": 1\n", ", line 1, column 1: " + "k" * 60 + "... is not a setting\n"),
    ],
    ids=lambda value: repr(value[:24]),
)
def test_refused(tmp_path: Path, content: bytes, expected: str) -> None:
    file = tmp_path / "dumper.yaml"
    file.write_bytes(content)
    message = refusal(file)
    assert message.startswith(f"{file}{expected}"), message


def test_missing(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.yaml").startswith(f"{tmp_path}/none.yaml: there is no such file\n")


def test_directory(tmp_path: Path) -> None:
    assert refusal(tmp_path).startswith(f"{tmp_path}: is a directory\n")


def test_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert refusal(tmp_path / "file" / "x.yaml") == f"{tmp_path}/file/x.yaml: cannot be read: Not a directory"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable(tmp_path: Path) -> None:
    file = tmp_path / "dumper.yaml"
    file.touch(mode=0)
    assert refusal(file) == f"{file}: cannot be read: Permission denied"


def test_unreadable_for_everybody() -> None:
    """Not even root reads this: there is nothing at address 0."""
    assert refusal(Path("/proc/self/mem")) == "/proc/self/mem: cannot be read: Input/output error"


def test_name_that_is_none() -> None:
    assert refusal(Path("/a\0b")) == "/a?b: cannot be read: not a file name"


def test_endless() -> None:
    assert "is longer than" in refusal(Path("/dev/zero"))


def test_long_names_stay_whole(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 200)
    folder.mkdir()
    assert f"{folder}/x.yaml: there is no such file" in refusal(folder / "x.yaml")


def test_pipe(tmp_path: Path) -> None:
    """`--config <(sops -d config.yaml)`: a file that can be read once, front to back."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=(VALID,))
    writer.start()
    assert load_config(pipe, {}).storage.type == "disk"
    writer.join(10)
    assert not writer.is_alive()


def test_byte_order_mark_and_windows_line_ends(tmp_path: Path) -> None:
    file = tmp_path / "dumper.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + VALID.replace("\n", "\r\n").encode())
    assert load_config(file, {}).storage.type == "disk"


def test_sections_with_nothing_in_them(tmp_path: Path) -> None:
    file = tmp_path / "dumper.yaml"
    file.write_text(VALID + "debounce:\nlog: ~\nexport: {}\n", encoding="utf-8")
    assert load_config(file, {}).debounce.quiet_seconds == 30


def test_origins_name_line_and_column(tmp_path: Path) -> None:
    file = tmp_path / "dumper.yaml"
    file.write_text(VALID + "export:\n  formats: [csv]\n  concurrency: 3\n", encoding="utf-8")
    loaded = load(file, {})
    assert loaded.config.export.formats == ("csv",)
    assert loaded.sources["export.formats"] == f"{file}, line 4, column 12"
    assert loaded.sources["export.concurrency"] == f"{file}, line 5, column 16"
    assert loaded.sources["export.retry_max_seconds"] == "default"
    assert loaded.files["export.formats"] == file
    assert "export.retry_max_seconds" not in loaded.files


def test_every_problem_is_counted(tmp_path: Path) -> None:
    file = tmp_path / "dumper.yaml"
    file.write_text(VALID + "lease: {ttl_seconds: x}\nlog: {level: x, format: y}\n", encoding="utf-8")
    lines = refusal(file).splitlines()
    assert lines[0].startswith(f"{file}, line 3, column 22: lease.ttl_seconds must be")
    assert lines[-1] == "(2 more problems.)"
