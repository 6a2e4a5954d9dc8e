"""`check` asks a real CKAN for its release and its plugins."""

from __future__ import annotations

import pytest

from datastore_dumper.checks.ckan import release
from datastore_dumper.checks.results import Result, Subject
from datastore_dumper.cli.options import database_of
from datastore_dumper.config import load
from datastore_dumper.config.storage import storage_settings
from datastore_dumper.storage.settings import open_storage
from tests.ckan.formats_portal import FormatsPortal
from tests.support.ckan_site import CkanSite

pytestmark = pytest.mark.ckan


def ask(site: CkanSite, compat: str) -> dict[str, Result]:
    environ = {
        "DATASTORE_DUMPER_DATABASE__DSN": "postgresql://h/d",
        "DATASTORE_DUMPER_STORAGE__TYPE": "disk",
        "DATASTORE_DUMPER_STORAGE__DISK__DIRECTORY": "/nowhere",
        "DATASTORE_DUMPER_CKAN__URL": site.url,
        "DATASTORE_DUMPER_CKAN__COMPAT": compat,
    }
    loaded = load(None, environ)
    subject = Subject(loaded, database_of(loaded.config), open_storage(storage_settings(loaded.config)))
    return {result.name: result for result in release(subject)}


def test_one_release_is_right(ckan_site: CkanSite) -> None:
    found = {compat: ask(ckan_site, compat)["ckan.release"] for compat in ("2.10", "2.11", "2.12")}
    (right,) = [compat for compat, result in found.items() if result.status == "ok"]
    assert {result.mend.partition(":")[0] for result in found.values()} == {"", f'Set ckan.compat to "{right}"'}


def test_the_plugin(ckan_site: CkanSite, formats_portal: FormatsPortal) -> None:
    assert ask(ckan_site, "2.12")["ckan.plugin"].status == "warning"
    assert ask(formats_portal.site, "2.12")["ckan.plugin"].status == "ok"
