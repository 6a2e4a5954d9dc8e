"""Fixtures for all tests: servers that really run. Each kind has its own module in tests/support."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support.ckan_env import DEFAULT_VERSION, VERSIONS

# How long an example takes is the machine's affair.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

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
        "--ckan",
        choices=VERSIONS,
        help=f"the CKAN release of tests that need one ({DEFAULT_VERSION}), and all of its tests",
    )
    parser.addoption("--artefacts", type=Path, help="a directory with the wheel and the sdist to install and try")
    parser.addoption("--site", type=Path, help="a directory with the documentation as a site, to check")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What is asked of each release with some patience waits for `make test-ckan`."""
    if config.getoption("ckan") is None:
        for item in items:
            if item.get_closest_marker("patient"):
                # Not switched off: `.ci/run` runs them, in each release of CKAN.
                item.add_marker(pytest.mark.skip(reason="runs where --ckan names a release"))


@pytest.fixture(scope="session")
def ckan_version(pytestconfig: pytest.Config) -> str:
    """The release that --ckan says."""
    return pytestconfig.getoption("ckan") or DEFAULT_VERSION
