"""Formats of installed distributions: found by entry points, loaded when asked for, and every way in which that fails."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from datastore_dumper.config import load_config
from datastore_dumper.errors import ConfigError
from datastore_dumper.formats import file_format, file_format_names, registry
from tests.config.render import render, valid_values

Install = Callable[[str, str, str], None]

GOOD = """
from datastore_dumper.formats.csv import CsvFormat
class Good(CsvFormat):
    name = "good"
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a distribution with one module and its entry points, for the time of the test."""
    monkeypatch.syspath_prepend(str(tmp_path))
    modules = []

    def install_distribution(name: str, code: str, entry_points: str) -> None:
        modules.append(name)
        (tmp_path / f"{name}.py").write_text(code, encoding="utf-8")
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
        (info / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{entry_points}\n", encoding="utf-8")

    caches = (registry.file_format, registry.load_format)
    for cache in caches:
        cache.cache_clear()
    yield install_distribution
    for cache in caches:
        cache.cache_clear()
    for name in modules:
        sys.modules.pop(name, None)


def refusal(name: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        file_format(name)
    return caught.value


def test_ckans_formats_are_installed() -> None:
    assert file_format_names()[:8] == ("csv", "csv-bom", "tsv", "tsv-bom", "json", "json-bom", "xml", "xml-bom")
    for name in file_format_names():
        assert file_format(name).name == name
    assert file_format("csv").format is file_format("csv-bom").format


def test_one_more(install: Install) -> None:
    install("more", GOOD, "good = more:Good\nlater = more_missing:Later")
    assert {"good", "later"} < set(file_format_names())
    assert file_format("good").name == "good"
    assert "more" in sys.modules
    assert "good-bom" not in file_format_names()


def test_unknown() -> None:
    assert "no format 'cvs'" in refusal("cvs").message
    assert "csv-bom" in refusal("cvs").hint
    assert "no format 'parquet-bom'" in refusal("parquet-bom").message


def test_clash(install: Install) -> None:
    install("one", GOOD, "good = one:Good")
    install("two", GOOD, "good = two:Good")
    message = refusal("good").message
    assert "one:Good (one 1.0)" in message
    assert "two:Good (two 1.0)" in message
    assert "one" not in sys.modules
    assert file_format("csv").name == "csv"


def test_a_clash_with_one_of_ours(install: Install) -> None:
    install("other", GOOD, "csv = other:Good")
    assert "More than one format is called 'csv'" in refusal("csv-bom").message


@pytest.mark.parametrize(
    ("code", "value", "words"),
    [
        ("import no_such_module_at_all", "bad:Bad", "ModuleNotFoundError: No module named 'no_such_module_at_all'"),
        ("1 / 0", "bad:Bad", "ZeroDivisionError"),
        ("", "bad:Bad", "AttributeError"),
        ("from datastore_dumper.formats import Format\nclass Bad(Format): name = 'bad'", "bad:Bad", "abstract"),
        ("class Bad: name = 'bad'", "bad:Bad", "no subclass of Format"),
        (GOOD, "bad:Good", "no subclass of Format with the name 'bad'"),
    ],
)
def test_a_format_that_cannot_be_loaded(install: Install, code: str, value: str, words: str) -> None:
    install("bad", code, f"bad = {value}")
    message = refusal("bad").message
    assert words in message
    assert f"{value} (bad 1.0)" in message


def test_the_configuration_says_why(install: Install, tmp_path: Path) -> None:
    install("one", GOOD, "csv = one:Good")
    file = tmp_path / "dumper.yaml"
    rendered = render({**valid_values(), ("export", "formats"): "[json, csv]"})
    file.write_text(rendered.text, encoding="utf-8")
    line, column = rendered.places["export", "formats"]
    with pytest.raises(ConfigError) as caught:
        load_config(file, {})
    assert f"{file}, line {line}, column {column}: export.formats names csv: More than one" in str(caught.value)
    assert "Uninstall all but one" in caught.value.hint
