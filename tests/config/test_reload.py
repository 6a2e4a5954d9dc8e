"""What a reload takes over: the live settings that changed, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from datastore_dumper.config import Config, load_config
from datastore_dumper.config.fields import Setting, settings
from datastore_dumper.config.reload import LIVE, take_over
from tests.config.render import render, valid_values

OTHER = {
    "boolean": ("true", "false"),
    "integer": ("9", "10"),
    "number": ("9", "10"),
    "path": ('"/one"', '"/two"'),
    "texts": ('["one"]', '["two"]'),
    "text": ('"one"', '"two"'),
}
CHOICES = {
    "export.formats": ("[csv]", "[tsv]"),
    "storage.type": ("disk", "s3"),
    "tables.formats": ('["a=csv"]', '["a=tsv"]'),
}
WORDS = {
    "ckan.url": ('"https://one"', '"https://two"'),
    "database.dsn": ('"host=one"', '"host=two"'),
    "database.replica_dsn": ('"host=one"', '"host=two"'),
    "monitor.heartbeat_url": ('"https://one"', '"https://two"'),
    "monitor.listen": ('"127.0.0.1:9878"', '"[::1]:9879"'),
    "export.segment_bytes": ("100000", "200000"),
    "debounce.max_delay_seconds": ("100", "200"),
}


def values(setting: Setting) -> tuple[str, str]:
    if setting.name in WORDS:
        return WORDS[setting.name]
    if setting.kind == "choice" and setting.name not in CHOICES:
        return f'"{setting.choices[0]}"', f'"{setting.choices[1]}"'
    return CHOICES.get(setting.name) or OTHER[setting.kind]


def config(tmp_path: Path, setting: Setting, value: str) -> Config:
    path = tmp_path / "dumper.yaml"
    given = {**valid_values(), setting.path: value}
    path.write_text(render(given).text, encoding="utf-8")
    return load_config(path, {})


def value(of: Config, setting: Setting) -> object:
    node: object = of
    for key in setting.path:
        node = getattr(node, key)
    return node


@pytest.mark.parametrize(
    "setting", [s for s in settings().values() if s.path in valid_values()], ids=lambda setting: setting.name
)
def test_each_setting(tmp_path: Path, setting: Setting) -> None:
    first, second = values(setting)
    running, read = config(tmp_path, setting, first), config(tmp_path, setting, second)
    taken, applied, waiting = take_over(running, read)
    if setting.name in LIVE:
        assert (applied, waiting) == ([setting.name], [])
        assert taken == read
    else:
        assert (applied, waiting) == ([], [setting.name])
        assert taken == running


def test_what_is_live_is_a_setting() -> None:
    assert {setting.name for setting in settings().values()} >= LIVE


def test_nothing_changed(tmp_path: Path) -> None:
    same = config(tmp_path, settings()["log", "level"], '"info"')
    assert take_over(same, same) == (same, [], [])
