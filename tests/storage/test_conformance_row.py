"""What `make conformance` prints is what the tests said, and the page has a table for it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.storage.conformance import COLUMNS, HEADING, HERE, Verdicts, row

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "choose-an-s3-service.md"


def test_every_column_is_shown_by_tests_that_there_are() -> None:
    sources = "".join((HERE / name).read_text(encoding="utf-8") for name in ("test_conformance.py", "test_s3.py"))
    defined = set(re.findall(r"^def (test_\w+)", sources, re.MULTILINE))
    assert {test for tests in COLUMNS.values() for test in tests} - defined == set()


@pytest.mark.parametrize(
    ("outcomes", "said"),
    [
        (["passed", "passed"], "yes"),
        (["passed", "failed"], "no"),
        (["passed", "skipped"], "not tried"),
        ([], "not tried"),
    ],
)
def test_verdicts(outcomes: list[str], said: str) -> None:
    assert Verdicts({"test_ranges": outcomes} if outcomes else {}).of(("test_ranges",)) == said


def test_the_page_has_rows_of_this_shape() -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    at = lines.index(HEADING)
    passed = Verdicts({test: ["passed"] for tests in COLUMNS.values() for test in tests})
    tried = [line for line in lines[at + 2 :] if line.startswith("| SeaweedFS")]
    assert [re.sub(r"\d{4}-\d{2}-\d{2}", "day", line) for line in tried] == [row("SeaweedFS 4.48", "day", passed)]
