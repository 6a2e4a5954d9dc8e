"""The example file and the reference page say what the model says, no more and no less."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from datastore_dumper.config import load
from datastore_dumper.config.example import example_yaml, main, reference_page
from datastore_dumper.config.fields import Setting, sections, settings
from datastore_dumper.config.secret_files import pairs

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "config.example.yaml"
PAGE = ROOT / "docs/reference/configuration.md"
REGENERATE = "run: python -m datastore_dumper.config.example config.example.yaml docs/reference/configuration.md"


def uncommented() -> str:
    return re.sub(r"^( *)#(?=[a-z0-9_]+:)", r"\1", EXAMPLE.read_text(encoding="utf-8"), flags=re.MULTILINE)


def value_at(tree: object, path: tuple[str, ...]) -> object:
    for key in path:
        assert isinstance(tree, dict)
        tree = tree[key]
    return tuple(tree) if isinstance(tree, list) else tree


def test_committed_files_are_those_of_the_model(tmp_path: Path) -> None:
    main(str(tmp_path / "example"), str(tmp_path / "page"))
    assert (tmp_path / "example").read_text(encoding="utf-8") == EXAMPLE.read_text(encoding="utf-8"), REGENERATE
    assert (tmp_path / "page").read_text(encoding="utf-8") == PAGE.read_text(encoding="utf-8"), REGENERATE


def test_example_is_a_valid_file_of_defaults() -> None:
    loaded = load(EXAMPLE, {})
    given = {name for name, source in loaded.sources.items() if source != "default"}
    assert given == {"database.dsn", "storage.type", "storage.disk.directory"}


def test_example_has_every_key_once_with_its_default() -> None:
    lines = uncommented().splitlines()
    names = [match[2] for line in lines if (match := re.match(r"( *)([a-z0-9_]+):", line))]
    known = [path[-1] for path in (*settings(), *sections()) if path]
    assert sorted(names) == sorted(known)
    tree = yaml.safe_load(uncommented())
    for path, setting in settings().items():
        if not setting.optional:
            assert value_at(tree, path) == (setting.example if setting.required else setting.default), setting.name


def test_example_uncommented_loads(tmp_path: Path) -> None:
    text = uncommented()
    for _, file in pairs():
        text = re.sub(rf"^ *{file[-1]}: .*$", "", text, flags=re.MULTILINE)
    path = tmp_path / "all.yaml"
    path.write_text(text, encoding="utf-8")
    sources = load(path, {}).sources
    assert {name for name, source in sources.items() if source == "default"} == {".".join(file) for _, file in pairs()}


@pytest.mark.parametrize("setting", settings().values(), ids=lambda setting: setting.name)
def test_setting_is_described(setting: Setting) -> None:
    assert re.fullmatch(r"[A-Z].+\.", setting.description)
    assert setting.expects
    assert setting.example is not None
    row = next(line for line in reference_page().splitlines() if line.startswith(f"| `{setting.name}` |"))
    assert len(row.split("|")) == 7
    assert f"| `{setting.variable}` |" in row
    assert setting.description in row
    prose = " ".join(line.strip().lstrip("#").strip() for line in example_yaml().splitlines())
    assert setting.description in prose


def test_units_are_in_the_names_of_numbers() -> None:
    counts = {"export.concurrency", "export.workers", "export.first_dumps_per_minute"}  # of the daemon's own
    assert {s.name for s in settings().values() if s.kind in ("integer", "number") and not s.unit} == counts
