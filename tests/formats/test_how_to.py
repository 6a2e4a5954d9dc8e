"""docs/how-to/add-a-format.md: its example works as it stands there."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from datastore_dumper.formats import Compat, file_format, file_format_names, registry
from tests.formats.made import made
from tests.support.datastore import create_table, insert
from tests.support.postgres import ScratchDatabase

PAGE = Path(__file__).parents[2] / "docs/how-to/add-a-format.md"


def test_the_example(database: ScratchDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = PAGE.read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (entry,) = re.findall(r'```toml\n\[project\.entry-points\."datastore_dumper\.formats"\]\n(.*?)```', page, re.DOTALL)
    info = tmp_path / "my_formats-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-formats\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{entry.replace(chr(34), '')}", encoding="utf-8")
    (tmp_path / "my_formats.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        assert "jsonl" in file_format_names()
        assert file_format("jsonl").format.content_type == "application/jsonl"
        with database.connect() as connection:
            create_table(connection, "t", {"a": "text", "b": "int[]"})
            insert(connection, "t", ["a", "b"], [('say "hi"', [1, 2]), (None, None), ("", [])])
            file = made(connection, "t", "jsonl", Compat(), ("_id < 2", "_id >= 2"))
    finally:
        registry.file_format.cache_clear()
        registry.load_format.cache_clear()
        sys.modules.pop("my_formats", None)
    assert file == b'["_id", "a", "b"]\n[1,"say \\"hi\\"",[1,2]]\n[2,null,null]\n[3,"",[]]\n'
