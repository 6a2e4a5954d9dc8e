"""Runs the tests of the storage against any S3 service and prints a row for docs/how-to/choose-an-s3-service.md.

    S3_TEST_ENDPOINT=host:port S3_TEST_ACCESS_KEY=... S3_TEST_SECRET_KEY=... make conformance NAME='Some service 1.2'

`S3_TEST_SECURE=1` for https, `S3_TEST_REGION` for another region than us-east-1. The key must be allowed to make and remove
buckets. Without an endpoint it is SeaweedFS's turn. Exits with 1 if something is not as it must be; what pytest said stands above
the row.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import pytest

HERE = Path(__file__).parent

# What a column says is shown by these tests.
COLUMNS = {
    "Write, read, list, delete": (
        "test_check_passes_and_leaves_nothing",
        "test_an_object_is_what_its_parts_are",
        "test_an_empty_object",
        "test_what_is_missing",
        "test_delete",
        "test_list_is_ordered_by_the_bytes_of_the_keys",
        "test_any_table_name_makes_a_key_that_works",
        "test_odd_keys",
        "test_the_mark_is_no_object",
    ),
    "Ranges": ("test_ranges",),
    "Ranged copy": ("test_large_parts_are_reused_by_the_storage",),
    "Copy checks the etag": ("test_reuse_is_refused_if_the_object_is_another",),
    "Failed uploads leave nothing": (
        "test_a_source_that_fails_leaves_nothing",
        "test_what_a_killed_check_left_is_swept",
    ),
    "Links": (
        "test_a_link_hands_out_the_object",
        "test_the_headers_are_kept_with_the_object",
        "test_a_link_expires",
    ),
    "Forged links refused": ("test_a_changed_link_is_refused",),
    "Private": ("test_nobody_gets_an_object_without_a_link",),
}


HEADING = f"| {' | '.join(('Service', 'Run on', *COLUMNS))} |"


@dataclass
class Verdicts:
    """What became of each test, as a plugin of pytest."""

    outcomes: dict[str, list[str]] = field(default_factory=dict)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            name = report.nodeid.rpartition("::")[2].partition("[")[0]
            self.outcomes.setdefault(name, []).append(report.outcome)

    def of(self, tests: tuple[str, ...]) -> str:
        """`yes`, `no`, or `not tried` if one did not run."""
        found = [outcome for test in tests for outcome in self.outcomes.get(test, ["skipped"])]
        if "failed" in found:
            return "no"
        return "yes" if set(found) == {"passed"} else "not tried"


def row(service: str, day: str, verdicts: Verdicts) -> str:
    """A line of the table."""
    return f"| {' | '.join((service, day, *map(verdicts.of, COLUMNS.values())))} |"


def main(service: str) -> int:
    """Run the tests, print the row."""
    verdicts = Verdicts()
    wanted = " or ".join(test for tests in COLUMNS.values() for test in tests)
    files = [str(HERE / name) for name in ("test_conformance.py", "test_s3.py")]
    pytest.main(
        ["--quiet", "--no-header", "-p", "no:cacheprovider", "-k", f"({wanted}) and not disk", *files], [verdicts]
    )
    sys.stdout.write(f"\n{HEADING}\n{row(service, datetime.now(timezone.utc).date().isoformat(), verdicts)}\n")
    return 0 if {verdicts.of(tests) for tests in COLUMNS.values()} == {"yes"} else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "SeaweedFS"))
