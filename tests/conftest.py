"""Fixtures for all tests: servers that really run. Each kind has its own module in tests/support."""

from __future__ import annotations

import pytest

from tests.support.ckan_env import DEFAULT_VERSION, VERSIONS

pytest_plugins = [
    "tests.support.postgres",
    "tests.support.seaweedfs",
    "tests.support.installation",
    "tests.support.daemon",
    "tests.support.exporting",
    "tests.support.standby",
    "tests.support.pgbouncer",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--ckan", choices=VERSIONS, default=DEFAULT_VERSION, help="the CKAN release of tests that need one"
    )
