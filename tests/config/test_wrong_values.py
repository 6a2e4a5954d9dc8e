"""Every key and every kind of wrong value, one at a time, made from the model: the message names place and setting."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from datastore_dumper.config import load_config
from datastore_dumper.config.fields import Setting, outline, sections, settings
from datastore_dumper.config.model import Config
from datastore_dumper.config.secret_files import pairs
from tests.config.render import refusal, render, valid_values, variables

WRONG = {
    "boolean": ["maybe", "2", '"true"', "1.5", "[true]", "{a: 1}", "!flag true"],
    "integer": ["abc", "1.5", "true", '"5"', "[5]", "{a: 1}", "010", "0x10", "1:30", "1_0", ".inf", "-1", "9" * 30],
    "number": ["abc", "true", '"5"', "[5]", "{a: 1}", "010", "1:30", ".inf", "-.inf", ".nan", "-0.5", "1.0e+300", "5s"],
    "choice": ["nonsense", "2.10", "3", "on", '""', "[json]", "{a: 1}", "2024-01-01"],
    "list": ["csv", "3", "no", "[]", "[nonsense]", "[no]", "[csv, csv]", "[[csv]]", "[~]", "{csv: csv}"],
    "path": ["3", "no", '""', "relative/path", "./x", '"~/x"', '"/with\\0nul"', "[/x]", "{a: 1}"],
    "texts": ["csv", "3", "no", '""', '[""]', '[" "]', "[3]", "[no]", "[[csv]]", "[~]", "{csv: csv}"],
    "text": ["3", "1.10", "no", '""', "[x]", "{a: 1}", "!secret x"],
}  # fmt: skip


def wrong_values(setting: Setting) -> Iterator[str]:
    yield from WRONG[setting.kind]
    if setting.kind in ("integer", "number"):
        lowest, highest = (float(word) for word in setting.expects.split()[-3::2])
        yield f"{lowest - 1:.0f}"
        yield f"{highest + 1:.0f}"
    if not setting.optional:
        yield from ("", "~", "null")


CASES = [pytest.param(s, value, id=f"{s.name}={value}") for s in settings().values() for value in wrong_values(s)]


def values_with(setting: Setting, value: str) -> dict[tuple[str, ...], str]:
    values = {**valid_values(), setting.path: value}
    for secret, file in pairs():
        if setting.path == file:
            del values[secret]
    return values


@pytest.mark.parametrize(("setting", "value"), CASES)
def test_wrong_value(tmp_path: Path, setting: Setting, value: str) -> None:
    file = tmp_path / "dumper.yaml"
    rendered = render(values_with(setting, value))
    file.write_text(rendered.text, encoding="utf-8")
    line, column = rendered.places[setting.path]
    message = refusal(file)
    first = message.splitlines()[0]
    if value:  # YAML puts the mark of a value that is not there right after the colon
        assert first.startswith(f"{file}, line {line}, column {column}: {setting.name}"), message
    else:
        assert first.startswith(f"{file}, line {line}, column {column - 1}: {setting.name} is empty"), message
    assert "more" not in message


@pytest.mark.parametrize("word", ["on", "no", "1.10", "3", "2.10"])
@pytest.mark.parametrize("name", ["ckan.compat", "roles.daemon", "storage.s3.bucket", "export.spool_directory"])
def test_what_yaml_takes_for_something_else_must_be_quoted(tmp_path: Path, name: str, word: str) -> None:
    file = tmp_path / "dumper.yaml"
    file.write_text(render({**valid_values(), tuple(name.split(".")): word}).text, encoding="utf-8")
    assert f"YAML takes {word} for " in (message := refusal(file)), message
    assert f'write "{word}", in quotes.' in message


@pytest.mark.parametrize("word", ["2.10", "2.11", "2.12"])
def test_compat_in_quotes(tmp_path: Path, word: str) -> None:
    file = tmp_path / "dumper.yaml"
    file.write_text(render({**valid_values(), ("ckan", "compat"): f"'{word}'"}).text, encoding="utf-8")
    assert load_config(file, {}).ckan.compat == word


@pytest.mark.parametrize("setting", [s for s in settings().values() if s.optional], ids=lambda s: s.name)
def test_null_is_not_set(tmp_path: Path, setting: Setting) -> None:
    values = {**valid_values(), setting.path: "null"}
    if setting.path[:2] == ("storage", "s3"):  # keys and token go together
        values = {
            path: v
            for path, v in values.items()
            if path[-1] not in ("access_key", "secret_key", "session_token", "role")
        }
        values[setting.path] = "null"
    file = tmp_path / "dumper.yaml"
    file.write_text(render(values).text, encoding="utf-8")
    node: object = load_config(file, {})
    for key in setting.path:
        node = getattr(node, key)
    assert node is None


@pytest.mark.parametrize(
    "setting",
    [s for s in settings().values() if (s.required and len(s.path) < 3) or s.path[-1] == "bucket"],
    ids=lambda s: s.name,
)
def test_missing(tmp_path: Path, setting: Setting) -> None:
    values = valid_values()
    del values[setting.path]
    file = tmp_path / "dumper.yaml"
    file.write_text(render(values).text, encoding="utf-8")
    message = refusal(file)
    assert message.startswith(f"{file}, line ")
    assert f"{setting.name} is missing\nSet it in the file or as {setting.variable}" in message


ENTRIES = [entry for entry in outline() if entry.path]


@pytest.mark.parametrize("path", [entry.path for entry in ENTRIES], ids=".".join)
def test_misspelt_key_is_refused_with_the_right_one(tmp_path: Path, path: tuple[str, ...]) -> None:
    rendered = render(valid_values() | {path: "x"} if path in settings() else valid_values())
    lines = rendered.text.splitlines()
    number = next(
        index
        for index, line in enumerate(lines)
        if line.startswith("  " * (len(path) - 1) + path[-1] + ":") and index >= _section_start(lines, path)
    )
    for slip in (f"{path[-1]}s", path[-1][:-1], path[-1].upper(), path[-1].replace("_", "-") + "-"):
        changed = [*lines]
        changed[number] = lines[number].replace(path[-1], slip, 1)
        file = tmp_path / "dumper.yaml"
        file.write_text("\n".join(changed), encoding="utf-8")
        message = refusal(file)
        column = 2 * (len(path) - 1) + 1
        assert message.startswith(
            f"{file}, line {number + 1}, column {column}: {'.'.join((*path[:-1], slip))} is not a setting"
        ), message
        assert f"Did you mean {'.'.join(path)}?" in message


def _section_start(lines: list[str], path: tuple[str, ...]) -> int:
    start = 0
    for depth, key in enumerate(path[:-1]):
        start = next(i for i, line in enumerate(lines) if i >= start and line == "  " * depth + key + ":")
    return start


@pytest.mark.parametrize("path", [path for path in settings() if path in valid_values()], ids=".".join)
def test_duplicate_key(tmp_path: Path, path: tuple[str, ...]) -> None:
    rendered = render(valid_values())
    lines = rendered.text.splitlines()
    line, _ = rendered.places[path]
    lines.insert(line, lines[line - 1])
    file = tmp_path / "dumper.yaml"
    file.write_text("\n".join(lines), encoding="utf-8")
    message = refusal(file)
    assert message.startswith(f"{file}, line {line + 1}, column {2 * len(path) - 1}: {'.'.join(path)} is given twice")
    assert f"first in line {line}\n" in message


@pytest.mark.parametrize("path", [path for path in sections() if path], ids=".".join)
@pytest.mark.parametrize("value", ["3", "text", "[1]", "true"])
def test_section_given_a_value(tmp_path: Path, path: tuple[str, ...], value: str) -> None:
    values = {p: v for p, v in valid_values().items() if p[: len(path)] != path}
    indent = "  " * (len(path) - 1)
    text = render(values).text
    if len(path) == 1:
        text += f"{path[0]}: {value}\n"
    else:
        text = text.replace("storage:\n", f"storage:\n{indent}{path[-1]}: {value}\n")
    file = tmp_path / "dumper.yaml"
    file.write_text(text, encoding="utf-8")
    assert f"{'.'.join(path)} is a section, not a setting" in refusal(file)


def test_key_of_another_section_is_suggested(tmp_path: Path) -> None:
    file = tmp_path / "dumper.yaml"
    file.write_text("quiet_seconds: 3\n", encoding="utf-8")
    assert "Did you mean debounce.quiet_seconds? That is another section." in refusal(file)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"debounce.quiet_seconds": 700},
            "debounce.max_delay_seconds must not be less than debounce.quiet_seconds (700)",
        ),
        ({"export.retry_initial_seconds": 601}, "export.retry_max_seconds must not be less than export.retry_initial_"),
        ({"storage.disk.directory": None}, "storage.type is disk, but storage.disk.directory is not set"),
        ({"storage.type": "s3"}, "storage.type is s3, but storage.s3.bucket is not set"),
        (
            {"storage.s3.bucket": "dumps", "storage.s3.access_key": "a"},
            "storage.s3.access_key is set, but storage.s3.sec",
        ),
        (
            {"storage.s3.bucket": "dumps", "storage.s3.secret_key": "a"},
            "storage.s3.secret_key is set, but storage.s3.acc",
        ),
        ({"storage.s3.bucket": "a"}, "storage.s3.bucket must be a bucket name"),
        ({"storage.s3.bucket": "dumps/x"}, "storage.s3.bucket must be a bucket name"),
        ({"storage.s3.bucket": "dumps", "storage.s3.prefix": "a/../b"}, "storage.s3.prefix must be key segments"),
        ({"storage.s3.bucket": "dumps", "storage.s3.prefix": "/a"}, "storage.s3.prefix must be key segments"),
        ({"storage.s3.bucket": "dumps", "storage.s3.endpoint": "https://s3.example.org"}, "without a scheme"),
        ({"storage.s3.bucket": "dumps", "storage.s3.endpoint": "s3.example.org/path"}, "must be host or host:port"),
        (
            {"storage.s3.bucket": "dumps", "storage.s3.public_endpoint": "a:b"},
            "storage.s3.public_endpoint must be host",
        ),
        ({"roles.daemon": "x" * 64}, "roles.daemon must be a role name of at most 63 bytes"),
        ({"roles.daemon": "é" * 32}, "roles.daemon must be a role name of at most 63 bytes"),
        (
            {"database.dsn": "postgresql://h/d?bogus=1"},
            "database.dsn is not a connection string that libpq understands",
        ),
    ],
)
def test_settings_that_do_not_fit_together_or_break_a_rule(changes: dict[str, object], expected: str) -> None:
    base = {"database.dsn": "postgresql://h/d", "storage.type": "disk", "storage.disk.directory": "/x"}
    assert load_config(None, variables(base)).storage.type == "disk"
    message = refusal(None, variables({**base, **changes}))
    assert expected in message
    assert message.startswith("environment variable ") or "max" in expected


def test_good_values_of_every_rule() -> None:
    given = {
        "database.dsn": "host=h dbname='my db' password=p@ss",
        "storage.type": "s3",
        "storage.s3.bucket": "my.dumps-1",
        "storage.s3.prefix": "a/b_c/d.e",
        "storage.s3.endpoint": "[::1]:9000",
        "storage.s3.public_endpoint": "files.example.org:443",
        "roles.daemon": "é" * 31,
        "debounce.quiet_seconds": 0,
        "debounce.max_delay_seconds": 0,
    }
    config = load_config(None, variables(given))
    assert config.storage.s3 is not None
    assert config.storage.s3.prefix == "a/b_c/d.e"


def test_models_refuse_change_and_unknown_keys() -> None:
    assert Config.model_config["frozen"] is True
    for section in ("database", "storage"):
        annotation = Config.model_fields[section].annotation
        assert annotation is not None
        assert annotation.model_config["frozen"] is True
        assert annotation.model_config["extra"] == "forbid"
