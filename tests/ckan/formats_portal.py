"""A site whose tables are published in every format, for the tests of formats and options. The fixture is in conftest."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3

from datastore_dumper.formats import file_format_names
from datastore_dumper.install import install
from tests.support.ckan_site import CkanPlatform, CkanSite
from tests.support.daemon import Dumper
from tests.support.installation import ROLES, handle
from tests.support.postgres import ScratchDatabase

PLUGINS = ["datastore_dumper", "datastore"]
PREFIX = "ckanext.datastore_dumper."
EXTRA = ("csv.gz", "parquet")
CKANS = {
    f"{format}{'-bom' if bom else ''}": f"?format={format}{'&bom=True' if bom else ''}"
    for format in ("csv", "tsv", "json", "xml")
    for bom in (False, True)
}
FIELDS: list[dict[str, Any]] = [
    {"id": "key", "type": "text", "info": {"label": 'The "key"'}},
    {"id": "a b", "type": "int", "info": {"label": "Both"}},
    {"id": "a_b", "type": "bigint", "info": {"label": "Both"}},
    {"id": "n", "type": "numeric"},
    {"id": "f", "type": "float"},
    {"id": "b", "type": "bool"},
    {"id": "d", "type": "date"},
    {"id": "t", "type": "time"},
    {"id": "ts", "type": "timestamp", "info": {"label": "Größe, Ort"}},
    {"id": "tz", "type": "timestamptz"},
    {"id": "doc", "type": "json", "info": {"notes": "no label"}},
    {"id": "texts", "type": "_text"},
    {"id": "ints", "type": "_int4"},
    {"id": "ü%s{}", "type": "text"},
]
FULL: dict[str, Any] = {
    "key": 'quo"te, comma\r\n\ttab <&> \u2028 🚲 e\u0301',
    "a b": -7,
    "a_b": 2**62,
    "n": "1234567890.0987654321",
    "f": 1e-7,
    "b": True,
    "d": "2024-02-29",
    "t": "23:59:59.999999",
    "ts": "2024-01-02T03:04:05.6789",
    "tz": "2024-01-02T03:04:05+02:00",
    "doc": {"z": [1.50, None, "é"], "a": {}},
    "texts": ["a", None, 'b"c'],
    "ints": [1, 2],
    "ü%s{}": "",
}
EMPTY: dict[str, Any] = {"key": "all else is null"}
UNUSUAL: dict[str, Any] = {"key": "x", "n": "NaN", "f": "Infinity", "ts": "0044-03-15T00:00:00", "doc": [], "texts": []}
TABLES: dict[str, list[dict[str, Any]]] = {
    "rows": [{**FULL, "a b": n} for n in range(300)] + [EMPTY, UNUSUAL],
    "one": [FULL],
    "empty": [],
}


@dataclass
class FormatsPortal:
    """A site with the plugin, and a daemon that has published its tables in all formats."""

    site: CkanSite
    dumper: Dumper
    settings: dict[str, str]
    tables: dict[str, str]
    """Resource ids by name."""
    core: dict[tuple[str, str], urllib3.BaseHTTPResponse]
    """What CKAN answered without the plugin, by table and format."""
    unpublished: dict[str, urllib3.BaseHTTPResponse]
    """What the plugin answered before anything was published, by path."""

    def dump(self, name: str, query: str = "", **kwargs: Any) -> urllib3.BaseHTTPResponse:
        return self.site.get(f"/datastore/dump/{self.tables.get(name, name)}{query}", **kwargs)

    @contextmanager
    def restarted(self, plugins: Sequence[str] = PLUGINS, **settings: str) -> Iterator[None]:
        """With other plugins and settings for a while."""
        try:
            changed = {PREFIX + name: value for name, value in settings.items()}
            self.site.restart(plugins, {**self.settings, **changed})
            yield
        finally:
            self.site.restart(PLUGINS, self.settings)


def make_table(site: CkanSite, name: str, records: list[dict[str, Any]], **dataset: Any) -> str:
    package = site.action("package_create", name=f"{name}_data", **dataset)
    resource = {"package_id": package["id"], "name": f"Stops/{name}.csv", "format": "CSV"}
    created = site.action(
        "datastore_create", resource=resource, fields=FIELDS, records=records, aliases=[f"{name}_alias"]
    )
    return str(created["resource_id"])


def is_file(response: urllib3.BaseHTTPResponse) -> bool:
    assert response.status == 200, response.data[:500]
    return "ETag" in response.headers


def text_of(response: urllib3.BaseHTTPResponse) -> str:
    """The sentence for a person, which no cache may keep."""
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert {part.strip() for part in response.headers["Cache-Control"].split(",")} == {"private", "no-store"}
    assert "ETag" not in response.headers
    text = response.data.decode()
    assert re.fullmatch(r"[^\n]+\.\n", text)
    return text


def assert_not_ready(response: urllib3.BaseHTTPResponse, format: str) -> None:
    assert response.status == 503
    assert response.headers["Retry-After"] == "60"
    assert f"{format} is not ready yet" in text_of(response)


@contextmanager
def published_portal(ckan_platform: CkanPlatform, directory: Path) -> Iterator[FormatsPortal]:
    """A new one. The daemon keeps its files in the directory."""
    files = directory / "files"
    files.mkdir()
    settings = {
        f"{PREFIX}storage": "disk",
        f"{PREFIX}disk.directory": str(files),
        f"{PREFIX}extra_formats": " ".join(EXTRA),
    }
    with ckan_platform.site(["datastore"]) as site:
        organization = site.action("organization_create", name="owner")
        tables = {name: make_table(site, name, records) for name, records in TABLES.items()}
        tables["private"] = make_table(site, "private", [FULL], private=True, owner_org=organization["id"])
        core = {
            (name, format): site.get(f"/datastore/dump/{tables[name]}{query}")
            for name in TABLES
            for format, query in {**CKANS, **{extra: f"?format={extra}" for extra in EXTRA}}.items()
        }
        database = ScratchDatabase(ckan_platform.postgres, site.databases.datastore)
        assert install(handle(database), ROLES).failed == {}
        site.restart(PLUGINS, settings)
        unpublished = {
            format: site.get(f"/datastore/dump/{tables['rows']}?format={format}") for format in ("csv", *EXTRA)
        }
        dumper = Dumper(
            database,
            directory,
            {
                "database": {"dsn": database.dsn},
                "ckan": {"compat": ckan_platform.version},
                "roles": {"ckan_read": ROLES.ckan_read},
                "storage": {"type": "disk", "disk": {"directory": str(files)}},
                "export": {"spool_directory": str(directory), "formats": list(file_format_names())},
            },
        )
        assert dumper.once() == 0
        yield FormatsPortal(site, dumper, settings, tables, core, unpublished)
