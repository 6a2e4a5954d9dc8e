"""Every format that the daemon makes, in a real CKAN: CKAN's own formats byte for byte, the site's extra formats, options.

A file comes with an ETag; CKAN's own dump never does.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import pyarrow.parquet
import pytest
import urllib3
from psycopg import sql

from datastore_dumper.formats import file_format_names
from datastore_dumper.install import install
from tests.support.ckan_site import SYSADMIN, USER, CkanPlatform, CkanSite
from tests.support.daemon import Dumper
from tests.support.installation import ROLES, handle
from tests.support.postgres import ScratchDatabase

pytestmark = pytest.mark.ckan

PLUGINS = ["datastore_dumper", "datastore"]
PREFIX = "ckanext.datastore_dumper."
EXTRA = ("csv.gz", "parquet")
CKANS = {
    f"{format}{'-bom' if bom else ''}": f"?format={format}{'&bom=True' if bom else ''}"
    for format in ("csv", "tsv", "json", "xml")
    for bom in (False, True)
}
# What CKAN means to send; Werkzeug makes application/octet-stream of it.
CONTENT_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "tsv": "text/tab-separated-values; charset=utf-8",
    "json": "application/json; charset=utf-8",
    "xml": "text/xml; charset=utf-8",
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
    {"id": "j", "type": "json", "info": {"notes": "no label"}},
    {"id": "texts", "type": "_text"},
    {"id": "ints", "type": "_int4"},
    {"id": "ü%s{}", "type": "text"},
]
FULL = {
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
    "j": {"z": [1.50, None, "é"], "a": {}},
    "texts": ["a", None, 'b"c'],
    "ints": [1, 2],
    "ü%s{}": "",
}
EMPTY = {"key": "all else is null"}
UNUSUAL = {"key": "x", "n": "NaN", "f": "Infinity", "ts": "0044-03-15T00:00:00", "j": [], "texts": []}
TABLES = {"rows": [{**FULL, "a b": n} for n in range(300)] + [EMPTY, UNUSUAL], "one": [FULL], "empty": []}


@dataclass
class Portal:
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


@pytest.fixture(scope="module")
def portal(ckan_platform: CkanPlatform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Portal]:
    directory = tmp_path_factory.mktemp("dumper")
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
                "roles": {"ckan_read": ROLES.ckan_read},
                "storage": {"type": "disk", "disk": {"directory": str(files)}},
                "export": {"spool_directory": str(directory), "formats": list(file_format_names())},
            },
        )
        assert dumper.once() == 0
        yield Portal(site, dumper, settings, tables, core, unpublished)


def test_the_daemon_makes_these_formats() -> None:
    assert set(file_format_names()) == {*CKANS, *EXTRA}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("format", CKANS)
def test_a_file_in_one_of_ckans_formats_cannot_be_told_from_ckans_dump(portal: Portal, format: str, name: str) -> None:
    core = portal.core[name, format]
    assert core.status == 200
    assert "ETag" not in core.headers
    response = portal.dump(name, CKANS[format])
    assert is_file(response)
    assert response.data == core.data
    assert response.headers["Content-Disposition"] == core.headers["Content-Disposition"]
    assert response.headers["Content-Type"] == CONTENT_TYPES[format.removesuffix("-bom")]


@pytest.mark.parametrize("name", [*TABLES, "rows_alias"])
def test_csv_gz_is_ckans_csv_compressed(portal: Portal, name: str) -> None:
    response = portal.dump(name, "?format=csv.gz")
    assert is_file(response)
    table = name.removesuffix("_alias")
    assert gzip.decompress(response.data) == portal.core[table, "csv"].data
    assert response.headers["Content-Type"] == "application/gzip"
    assert "Content-Encoding" not in response.headers
    assert response.headers["Content-Disposition"] == f'attachment; filename="{portal.tables[table]}.csv.gz"'


def test_parquet_has_the_values(portal: Portal) -> None:
    response = portal.dump("rows", "?format=parquet")
    assert is_file(response)
    assert response.headers["Content-Disposition"] == f'attachment; filename="{portal.tables["rows"]}.parquet"'
    table = pyarrow.parquet.read_table(io.BytesIO(response.data))
    assert table.column_names == ["_id", *(field["id"] for field in FIELDS)]
    first, null = table.slice(7, 1).to_pylist()[0], table.slice(300, 1).to_pylist()[0]
    assert (first["_id"], first["key"], first["a b"], first["a_b"]) == (8, FULL["key"], 7, 2**62)
    assert (first["texts"], first["ints"]) == (FULL["texts"], FULL["ints"])
    assert {name for name, value in null.items() if value is not None} == {"_id", "key"}
    assert table.num_rows == len(TABLES["rows"])


@pytest.mark.parametrize("format", [*CKANS, *EXTRA])
def test_head_says_what_get_would(portal: Portal, format: str) -> None:
    query = CKANS.get(format, f"?format={format}")
    head, get = portal.dump("rows", query, method="HEAD"), portal.dump("rows", query)
    assert (head.status, head.data) == (200, b"")
    for name in ("Content-Length", "Content-Type", "Content-Disposition", "ETag", "Last-Modified"):
        assert head.headers[name] == get.headers[name]
    assert int(head.headers["Content-Length"]) == len(get.data)


def test_without_the_plugin_ckan_refuses_extra_formats(portal: Portal) -> None:
    """With 400; CKAN 2.12 trips over the message and says 500 (one_of in ckan/logic/validators.py)."""
    for format in EXTRA:
        assert portal.core["rows", format].status in (400, 500)


def test_before_a_table_is_published_extra_formats_are_not_ready(portal: Portal) -> None:
    assert not is_file(portal.unpublished["csv"])
    for format in EXTRA:
        assert_not_ready(portal.unpublished[format], format)


@pytest.mark.parametrize("format", EXTRA)
def test_after_a_commit_the_file_is_not_ready_until_the_next_export(portal: Portal, format: str) -> None:
    portal.tables["changing"] = make_table(portal.site, f"changing_{EXTRA.index(format)}", [FULL])
    query = f"?format={format}"
    assert_not_ready(portal.dump("changing", query), format)
    assert portal.dumper.once() == 0
    old = portal.dump("changing", query)
    assert is_file(old)
    portal.site.action(
        "datastore_upsert", resource_id=portal.tables["changing"], records=[EMPTY], method="insert", force=True
    )
    assert_not_ready(portal.dump("changing", query, **{"If-None-Match": old.headers["ETag"]}), format)
    head = portal.dump("changing", query, method="HEAD")
    assert (head.status, head.data, head.headers["Retry-After"]) == (503, b"", "60")
    assert portal.dumper.once() == 0
    new = portal.dump("changing", query, **{"If-None-Match": old.headers["ETag"]})
    assert is_file(new)
    assert new.data != old.data


@pytest.mark.parametrize("format", EXTRA)
def test_a_file_that_storage_lost_is_not_ready(portal: Portal, format: str) -> None:
    portal.tables["lost"] = make_table(portal.site, f"lost_{EXTRA.index(format)}", [FULL])
    assert portal.dumper.once() == 0
    (path,) = (portal.dumper.directory / "files").rglob(f"{portal.tables['lost']}.{format}")
    path.unlink()
    assert_not_ready(portal.dump("lost", f"?format={format}"), format)
    assert is_file(portal.dump("lost"))
    assert re.search(rf"WARNING .*is not to be had as {format}: .*{path.name}", portal.site.logs)


@pytest.mark.parametrize("format", [*CKANS, *EXTRA])
def test_files_are_for_those_whom_ckan_lets_have_the_table(portal: Portal, format: str) -> None:
    tokens = portal.site.platform.tokens
    query = CKANS.get(format, f"?format={format}")
    for name in ("private", "private_alias"):
        allowed = portal.dump(name, query, token=tokens[SYSADMIN])
        assert is_file(allowed)
        for token in (None, tokens[USER], "wrong"):
            for method in ("GET", "HEAD"):
                refused = portal.dump(
                    name, query, token=token, method=method, **{"If-None-Match": allowed.headers["ETag"]}
                )
                assert refused.status == 404
                assert "ETag" not in refused.headers
    assert portal.dump("nothing", query).status == 404


def test_who_is_refused_learns_nothing_more_from_an_extra_format(portal: Portal) -> None:
    """Not even whether the arguments would do; and the page is CKAN's own."""
    title = re.compile(rb"<h1[^>]*>.*?</h1>.*?</p>|DataStore resource not found", re.DOTALL)
    for name in ("private", "nothing"):
        as_csv, as_parquet = portal.dump(name), portal.dump(name, "?format=parquet&limit=1")
        assert as_csv.status == as_parquet.status == 404
        assert title.findall(as_parquet.data) == title.findall(as_csv.data) != []


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("&limit=2&filters={}", "filters, limit"),
        ("&q=a", "q"),
        ("&latest=true", "latest"),
        ("&bom=True", "bom"),
        ("&sort=key", "sort"),
    ],
)
@pytest.mark.parametrize("format", EXTRA)
def test_part_of_a_table_in_an_extra_format_is_nobodys_to_answer(
    portal: Portal, format: str, query: str, named: str
) -> None:
    response = portal.dump("rows", f"?format={format}{query}")
    assert response.status == 400
    assert f"{format} are of whole tables: leave out {named}." in text_of(response)


@pytest.mark.parametrize(
    ("plugins", "settings"),
    [
        (PLUGINS, {"extra_formats": ""}),
        (PLUGINS, {"storage": ""}),
        ([*PLUGINS, "sample_datastore_plugin"], {}),
    ],
)
def test_where_no_extra_format_is_offered_ckan_refuses_it(
    portal: Portal, plugins: list[str], settings: dict[str, str]
) -> None:
    with portal.restarted(plugins, **settings):
        for format in EXTRA:
            response = portal.dump("rows", f"?format={format}")
            assert response.status == portal.core["rows", format].status
            assert response.headers["Content-Type"] == portal.core["rows", format].headers["Content-Type"]


def test_a_type_that_parquet_lacks_spoils_parquet_alone(portal: Portal) -> None:
    resource_id = portal.tables["odd"] = make_table(portal.site, "odd", [FULL])
    add = sql.SQL("ALTER TABLE {} ADD COLUMN place point DEFAULT '(1,2)'").format(sql.Identifier(resource_id))
    with portal.dumper.database.connect() as admin:
        admin.execute(add)
    core = {format: portal.dump("odd", query).data for format, query in CKANS.items()}
    assert portal.dumper.once() == 0
    for format, query in CKANS.items():
        response = portal.dump("odd", query)
        assert is_file(response)
        assert response.data == core[format]
    assert is_file(portal.dump("odd", "?format=csv.gz"))
    parquet = portal.dump("odd", "?format=parquet")
    assert parquet.status == 404
    assert "place" in text_of(parquet)
    assert "Retry-After" not in parquet.headers

    with portal.dumper.database.connect() as admin:
        admin.execute(sql.SQL("ALTER TABLE {} DROP COLUMN place").format(sql.Identifier(resource_id)))
    assert_not_ready(portal.dump("odd", "?format=parquet"), "parquet")
    assert portal.dumper.once() == 0
    assert is_file(portal.dump("odd", "?format=parquet"))


def rows_of(data: bytes, delimiter: str = ",") -> list[list[str]]:
    return list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), delimiter=delimiter))


def test_altered_files_are_only_for_sites_that_want_them(portal: Portal) -> None:
    before = len(portal.site.logs)
    try:
        assert portal.dumper.once(export={"header": "labels", "omit_id": True}) == 0
        for format, query in CKANS.items():
            response = portal.dump("rows", query)
            assert response.data == portal.core["rows", format].data
            assert is_file(response) == format.startswith(("json", "xml"))
        assert_not_ready(portal.dump("rows", "?format=csv.gz"), "csv.gz")
        assert is_file(portal.dump("rows", "?format=parquet"))
        warnings = re.findall("WARNING .*not handed out: .*", portal.site.logs[before:])
        assert len(warnings) == 1
        assert f"set {PREFIX}alterations = labels omit_id;" in warnings[0]

        with portal.restarted(alterations="labels"):
            assert not is_file(portal.dump("rows"))
        with portal.restarted(alterations="omit_id labels"):
            core = portal.core["rows", "csv"].data
            headers = [
                'The "key"',
                "a b",
                "a_b",
                "n",
                "f",
                "b",
                "d",
                "t",
                "Größe, Ort",
                "tz",
                "j",
                "texts",
                "ints",
                "ü%s{}",
            ]
            expected = [headers, *(row[1:] for row in rows_of(core)[1:])]
            plain = portal.dump("rows")
            assert is_file(plain)
            assert rows_of(plain.data) == expected
            assert rows_of(portal.dump("rows", "?format=tsv").data, "\t") == expected
            assert portal.dump("rows", "?bom=True").data == b"\xef\xbb\xbf" + plain.data
            assert gzip.decompress(portal.dump("rows", "?format=csv.gz").data) == plain.data
            assert is_file(portal.dump("rows", "?format=json"))
            live = portal.dump("rows", "?latest=true")
            assert not is_file(live)
            assert live.data == core
    finally:
        assert portal.dumper.once() == 0
    assert is_file(portal.dump("rows"))
    assert portal.dump("rows").data == portal.core["rows", "csv"].data


def test_names_for_people(portal: Portal) -> None:
    day = datetime.now(timezone.utc)
    with portal.restarted(filename="name"):
        for query, extension in (("", "csv"), ("?format=csv.gz", "csv.gz"), ("?format=json&bom=1", "json")):
            response = portal.dump("rows_alias", query)
            assert is_file(response)
            assert re.fullmatch(
                rf'attachment; filename="Stops_rows-{day:%Y-%m-}\d\d.{extension}"',
                response.headers["Content-Disposition"],
            )
        assert portal.dump("rows").data == portal.core["rows", "csv"].data
        private = portal.dump("private", token=portal.site.platform.tokens[SYSADMIN])
        assert "Stops_private-" in private.headers["Content-Disposition"]


def test_a_file_for_another_release_is_not_handed_out(portal: Portal) -> None:
    try:
        assert portal.dumper.once(ckan={"compat": "2.11"}) == 0
        assert portal.dump("rows").data == portal.core["rows", "csv"].data
        assert not is_file(portal.dump("rows"))
        assert_not_ready(portal.dump("rows", "?format=csv.gz"), "csv.gz")
        assert 'made for CKAN 2.11, this is 2.12. Set ckan.compat to "2.12"' in portal.site.logs
    finally:
        assert portal.dumper.once() == 0
    assert is_file(portal.dump("rows"))
