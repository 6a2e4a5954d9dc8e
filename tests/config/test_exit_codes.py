"""docs/reference/exit-codes.md lists the codes that the program uses, and no others."""

from __future__ import annotations

import re
from pathlib import Path

from datastore_dumper import errors

PAGE = Path(__file__).parents[2] / "docs/reference/exit-codes.md"


def test_page_lists_the_codes() -> None:
    rows = re.findall(r"^\| (\d+) \| [^|]+ \| [^|]+ \|$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    codes = {value for name, value in vars(errors).items() if name.startswith("EXIT_")}
    assert [int(row) for row in rows] == sorted({0, *codes})
    raised = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.DumperError)]
    assert {kind.exit_code for kind in raised} <= codes
