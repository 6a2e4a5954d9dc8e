"""The main job, in a real CKAN with the real daemon: a change through CKAN's API becomes a file that CKAN hands out.

The client follows redirects, as browsers do. CKAN's own dump never has an ETag; a ready file always does, on disk and in S3.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import urllib3

from datastore_dumper.install import install
from tests.support.ckan_site import CkanPlatform, CkanSite
from tests.support.daemon import Dumper
from tests.support.installation import ROLES, handle
from tests.support.postgres import ScratchDatabase
from tests.support.seaweedfs import S3Server
from tests.support.waiting import eventually

pytestmark = pytest.mark.ckan

FORMATS = {"csv": "", "csv-bom": "?bom=True"}
FIELDS = [
    {"id": "key", "type": "text"},
    {"id": "when", "type": "timestamp"},
    {"id": "n", "type": "numeric"},
    {"id": "tags", "type": "_text"},
    {"id": "doc", "type": "json"},
    {"id": "on", "type": "bool"},
]


def record(key: str, **values: Any) -> dict[str, Any]:
    return {
        "key": key,
        "when": "2024-01-02T03:04:05.678",
        "n": "1.50",
        "tags": ["a", 'b"'],
        "doc": {"x": [1]},
        **values,
    }


@dataclass
class Portal:
    site: CkanSite
    dumper: Dumper
    resource_id: str = ""

    def download(self, query: str = "") -> urllib3.BaseHTTPResponse:
        response = self.site.http.request(
            "GET", f"{self.site.url}/datastore/dump/{self.resource_id}{query}", redirect=True, retries=3
        )
        assert response.status == 200, response.data[:500]
        return response

    def live(self, query: str = "") -> bytes:
        """CKAN's own dump, which `latest` asks for."""
        response = self.download(f"{query}{'&' if query else '?'}latest=true")
        assert "ETag" not in response.headers
        return response.data

    def is_file(self, query: str = "") -> bool:
        return "ETag" in self.download(query).headers

    def expect_files(self) -> None:
        """Soon a ready file answers, with the bytes of CKAN's own dump."""
        for query in FORMATS.values():
            eventually(lambda query=query: self.is_file(query))
            assert self.download(query).data == self.live(query)


@contextmanager
def portal_with(
    platform: CkanPlatform, tmp_path: Path, storage: dict[str, Any], plugin: dict[str, str]
) -> Iterator[Portal]:
    with platform.site(["datastore"]) as site:
        database = ScratchDatabase(platform.postgres, site.databases.datastore)
        install(handle(database), ROLES)
        dumper = Dumper(
            database,
            tmp_path,
            {
                "database": {"dsn": database.dsn_for("dumper")},
                "roles": {"daemon": "dumper", "ckan_write": "ckan_write", "ckan_read": "ckan_read"},
                "ckan": {"compat": platform.version},
                "debounce": {"quiet_seconds": 0.5, "max_delay_seconds": 10},
                "export": {"spool_directory": str(tmp_path), "formats": list(FORMATS)},
                "storage": storage,
                "log": {"format": "json"},
            },
        )
        package = site.action("package_create", name="data")
        portal = Portal(site, dumper)
        portal.resource_id = site.action(
            "datastore_create",
            resource={"package_id": package["id"]},
            fields=FIELDS,
            records=[record(str(number)) for number in range(50)],
            primary_key=["key"],
        )["resource_id"]
        without_plugin = {query: portal.download(query).data for query in FORMATS.values()}
        site.restart(["datastore_dumper", "datastore"], plugin)
        # Before anything is published CKAN itself answers, with the same bytes.
        assert {query: portal.download(query).data for query in FORMATS.values()} == without_plugin
        assert not portal.is_file()
        with dumper.running():
            portal.expect_files()
        assert {query: portal.download(query).data for query in FORMATS.values()} == without_plugin
        yield portal


@pytest.fixture(params=["disk", "s3"])
def portal(
    request: pytest.FixtureRequest, ckan_platform: CkanPlatform, tmp_path: Path, s3_server: S3Server, s3_bucket: str
) -> Iterator[Portal]:
    if request.param == "disk":
        files = tmp_path / "files"
        files.mkdir()
        storage: dict[str, Any] = {"type": "disk", "disk": {"directory": str(files)}}
        plugin = {"storage": "disk", "disk.directory": str(files)}
    else:
        bucket = {
            "endpoint": s3_server.endpoint,
            "bucket": s3_bucket,
            "access_key": s3_server.access_key,
            "secret_key": s3_server.secret_key,
        }
        storage = {"type": "s3", "s3": {**bucket, "secure": False}}
        plugin = {"storage": "s3", "s3.secure": "false", **{f"s3.{name}": value for name, value in bucket.items()}}
    plugin = {f"ckanext.datastore_dumper.{name}": value for name, value in plugin.items()}
    with portal_with(ckan_platform, tmp_path, storage, plugin) as made:
        yield made


def test_changes_through_ckans_api_become_files(portal: Portal) -> None:
    site, resource_id = portal.site, portal.resource_id
    changes = {
        "upsert": lambda: site.action(
            "datastore_upsert",
            resource_id=resource_id,
            records=[record("3", n="7", when=None), record("new", tags=None, doc=None, on=True)],
            force=True,
        ),
        "delete": lambda: site.action("datastore_delete", resource_id=resource_id, filters={"key": "5"}, force=True),
        "add column": lambda: site.action(
            "datastore_create",
            resource_id=resource_id,
            fields=[*FIELDS, {"id": "odd 'name' % ü", "type": "int"}],
            force=True,
        ),
        "delete all rows": lambda: site.action(
            "datastore_delete" if site.platform.version == "2.10" else "datastore_records_delete",
            resource_id=resource_id,
            filters={},
            force=True,
        ),
    }
    with portal.dumper.running() as daemon:
        for change in changes.values():
            before = portal.download().data
            with daemon.frozen():
                change()
                assert not portal.is_file()  # stale from the moment CKAN has committed
                assert portal.download().data == portal.live() != before
            portal.expect_files()
        daemon.kill()
    portal.site.action(
        "datastore_upsert", resource_id=resource_id, records=[record("late")], method="insert", force=True
    )
    # The daemon is dead: users get CKAN's own dump, not an old file.
    assert not portal.is_file()
    assert b"late," in portal.download().data
    with portal.dumper.running():
        portal.expect_files()
        site.action("datastore_delete", resource_id=resource_id, force=True)
        gone = site.get(f"/datastore/dump/{resource_id}")
        assert gone.status == 404
