"""Fixtures for all tests: servers that really run. Each kind has its own module in tests/support."""

from __future__ import annotations

pytest_plugins = [
    "tests.support.postgres",
    "tests.support.seaweedfs",
    "tests.support.installation",
    "tests.support.daemon",
    "tests.support.exporting",
    "tests.support.standby",
    "tests.support.pgbouncer",
]
