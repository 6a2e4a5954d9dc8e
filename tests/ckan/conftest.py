"""Real CKAN for the tests in this directory. The virtualenv is built if `make ckan-env` has not done so: a minute or two."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.ckan.dumps_portal import DumpsPortal, dumps_portal
from tests.ckan.formats_portal import FormatsPortal, published_portal
from tests.support.ckan_env import ckan_environment
from tests.support.ckan_site import CkanPlatform, CkanSite
from tests.support.postgres import PostgresServer


@pytest.fixture(scope="session")
def ckan_platform(ckan_version: str, postgres_server: PostgresServer) -> Iterator[CkanPlatform]:
    """What sites share; `with ckan_platform.site(plugins, settings) as site` makes one. Of the release that --ckan says."""
    with CkanPlatform.start(ckan_environment(ckan_version), postgres_server) as platform:
        yield platform


@pytest.fixture(scope="session")
def ckan_site(ckan_platform: CkanPlatform) -> Iterator[CkanSite]:
    """A CKAN as it is without this project."""
    with ckan_platform.site(["datastore"]) as site:
        yield site


@pytest.fixture(scope="session")
def formats_portal(ckan_platform: CkanPlatform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FormatsPortal]:
    """A CKAN with the plugin whose tables are published in every format. Tests put settings and formats back."""
    with published_portal(ckan_platform, tmp_path_factory.mktemp("dumper")) as portal:
        yield portal


@pytest.fixture(scope="session")
def dumps_site(ckan_platform: CkanPlatform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DumpsPortal]:
    """A CKAN with dumps of several resources."""
    with dumps_portal(ckan_platform, tmp_path_factory.mktemp("dumps")) as portal:
        yield portal


@pytest.fixture
def dumps(dumps_site: DumpsPortal) -> DumpsPortal:
    """The same, and all is published, nothing is under way and nothing has failed."""
    dumps_site.settle()
    return dumps_site
