"""The plugin in a real CKAN: which dumps are ready files, how they are handed out, and that all others are CKAN's own.

A file comes with an ETag; CKAN's own dump never does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import urllib3

from datastore_dumper.install import install
from tests.support.ckan_site import SYSADMIN, USER, CkanPlatform, CkanSite
from tests.support.daemon import Dumper
from tests.support.installation import ROLES, handle
from tests.support.postgres import ScratchDatabase
from tests.support.seaweedfs import S3Server

pytestmark = pytest.mark.ckan

PLUGINS = ["datastore_dumper", "datastore"]
FIELDS = [{"id": "n", "type": "int4"}, {"id": "when", "type": "timestamp"}, {"id": "what", "type": "text"}]
RECORDS = [{"n": n, "when": f"2024-01-02T03:04:05.{n:03}", "what": f'"{n}", Größe'} for n in range(500)]
# What a ready file can answer, and what it cannot.
WHOLE = ("", "?bom=True", "?sort=_id&offset=0&utm_source=x")
PARTS = ("?limit=2", "?offset=490", '?filters={"n":7}', "?q=Größe", "?fields=n", "?distinct=true", "?sort=n desc")
OTHERS = ("?latest=true", "?format=tsv", "?format=json", "?format=nonsense", "?limit=many")


def urls(resource_id: str) -> list[str]:
    return [f"/datastore/dump/{resource_id}{query}" for query in (*WHOLE, *PARTS, *OTHERS)]


@dataclass(frozen=True)
class Answer:
    """What two responses have in common if one cannot be told from the other. Error pages differ by their CSRF token."""

    status: int
    body: bytes
    headers: tuple[str | None, ...]

    @classmethod
    def of(cls, response: urllib3.BaseHTTPResponse) -> Answer:
        names = ("Content-Type", "Content-Disposition", "Cache-Control", "ETag")
        headers = tuple(response.headers.get(name) for name in names)
        return cls(response.status, response.data if response.status == 200 else b"", headers)


@dataclass
class Portal:
    """A site with the plugin, and a daemon that has published its tables."""

    site: CkanSite
    dumper: Dumper
    settings: dict[str, str]
    public: str
    private: str
    without_plugin: dict[str, Answer]
    without_schema: dict[str, Answer]

    def dump(self, name: str, *, token: str | None = None, **kwargs: str) -> urllib3.BaseHTTPResponse:
        return self.site.get(f"/datastore/dump/{name}", token=token, **kwargs)

    def new_table(self, name: str) -> str:
        """A published table that a test may spoil."""
        resource_id = make_table(self.site, name)
        assert self.dumper.once() == 0
        assert "ETag" in self.dump(resource_id).headers
        return resource_id


def make_table(site: CkanSite, name: str, **dataset: Any) -> str:
    package = site.action("package_create", name=name, **dataset)
    created = site.action(
        "datastore_create",
        resource={"package_id": package["id"]},
        fields=FIELDS,
        records=RECORDS,
        primary_key=["n"],
        aliases=[f"{name}_alias"],
    )
    return str(created["resource_id"])


@pytest.fixture(scope="module")
def portal(ckan_platform: CkanPlatform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Portal]:
    directory = tmp_path_factory.mktemp("dumper")
    files = directory / "files"
    files.mkdir()
    settings = {
        "ckanext.datastore_dumper.storage": "disk",
        "ckanext.datastore_dumper.disk.directory": str(files),
    }
    with ckan_platform.site(["datastore"]) as site:
        organization = site.action("organization_create", name="owner")
        public = make_table(site, "public")
        private = make_table(site, "private", private=True, owner_org=organization["id"])
        paths = [*urls(public), *urls("public_alias"), *urls("nothing"), *urls(private)]
        without_plugin = {path: Answer.of(site.get(path)) for path in paths}
        site.restart(PLUGINS, settings)
        without_schema = {path: Answer.of(site.get(path)) for path in paths}

        database = ScratchDatabase(ckan_platform.postgres, site.databases.datastore)
        assert install(handle(database), ROLES).failed == {}
        dumper = Dumper(
            database,
            directory,
            {
                "database": {"dsn": database.dsn},
                "ckan": {"compat": ckan_platform.version},
                "storage": {"type": "disk", "disk": {"directory": str(files)}},
                "export": {"spool_directory": str(directory)},
            },
        )
        assert dumper.once() == 0
        yield Portal(site, dumper, settings, public, private, without_plugin, without_schema)


def test_before_the_schema_is_installed_every_answer_is_ckans(portal: Portal) -> None:
    assert portal.without_schema == portal.without_plugin
    assert len(re.findall("lacks the functions .* .run `datastore-dumper install`", portal.site.logs)) >= 6


@pytest.mark.parametrize("query", WHOLE)
@pytest.mark.parametrize("name", ["public", "public_alias"])
def test_a_whole_table_is_a_file_with_the_bytes_of_ckan(portal: Portal, name: str, query: str) -> None:
    name = portal.public if name == "public" else name
    response = portal.dump(f"{name}{query}")
    core = portal.without_plugin[f"/datastore/dump/{name}{query}"]
    assert response.status == 200
    assert response.data == core.body
    assert re.fullmatch(r'"[^"]+"', response.headers["ETag"])
    assert response.headers["Content-Disposition"] == core.headers[1]
    assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert response.headers["Content-Length"] == str(len(core.body))
    assert response.headers["Accept-Ranges"] == "bytes"


def test_what_no_file_can_answer_is_ckans(portal: Portal) -> None:
    for name in (portal.public, "public_alias", "nothing"):
        for query in (*PARTS, *OTHERS):
            path = f"/datastore/dump/{name}{query}"
            assert Answer.of(portal.site.get(path)) == portal.without_plugin[path], path


def test_a_file_is_for_those_whom_ckan_lets_have_the_table(portal: Portal) -> None:
    tokens = portal.site.platform.tokens
    for name in (portal.private, "private_alias"):
        allowed = portal.dump(name, token=tokens[SYSADMIN])
        assert allowed.status == 200
        assert "ETag" in allowed.headers
        for token in (None, tokens[USER], "wrong"):
            for method in ("GET", "HEAD"):
                refused = portal.dump(name, token=token, method=method, **{"If-None-Match": allowed.headers["ETag"]})
                assert refused.status == 404
                assert "ETag" not in refused.headers


def test_no_cache_may_hand_a_file_to_somebody_else(portal: Portal) -> None:
    headers = portal.dump(portal.public).headers
    assert {part.strip() for part in headers["Cache-Control"].split(",")} == {"private", "no-cache"}
    assert {"Cookie", "Authorization"} <= {part.strip() for part in headers["Vary"].split(",")}


def test_head_says_what_get_would(portal: Portal) -> None:
    head, get = portal.dump(portal.public, method="HEAD"), portal.dump(portal.public)
    for name in ("Content-Length", "Content-Type", "Content-Disposition", "ETag", "Last-Modified", "Accept-Ranges"):
        assert head.headers[name] == get.headers[name]
    assert head.status == 200
    assert head.data == b""


def test_a_known_file_is_not_sent_again(portal: Portal) -> None:
    whole = portal.dump(portal.public)
    for known in (
        {"If-None-Match": f'"older", {whole.headers["ETag"]}'},
        {"If-Modified-Since": whole.headers["Last-Modified"]},
    ):
        response = portal.dump(portal.public, **known)
        assert response.status == 304
        assert response.data == b""
        assert response.headers["ETag"] == whole.headers["ETag"]
    assert portal.dump(portal.public, **{"If-None-Match": '"older"'}).data == whole.data


def test_an_interrupted_download_goes_on(portal: Portal) -> None:
    whole = portal.dump(portal.public)
    etag, length = whole.headers["ETag"], len(whole.data)

    rest = portal.dump(portal.public, **{"Range": "bytes=1000-", "If-Range": etag})
    assert rest.status == 206
    assert rest.headers["Content-Range"] == f"bytes 1000-{length - 1}/{length}"
    assert whole.data[:1000] + rest.data == whole.data

    assert portal.dump(portal.public, **{"Range": "bytes=-7"}).data == whole.data[-7:]
    of_another_file = portal.dump(portal.public, **{"Range": "bytes=1000-", "If-Range": '"older"'})
    assert (of_another_file.status, of_another_file.data) == (200, whole.data)
    beyond = portal.dump(portal.public, **{"Range": f"bytes={length}-"})
    assert beyond.status == 416
    assert beyond.headers["Content-Range"] == f"bytes */{length}"


def test_after_a_commit_the_old_file_is_not_served(portal: Portal) -> None:
    resource_id = portal.new_table("changing")
    old = portal.dump(resource_id)
    portal.site.action("datastore_upsert", resource_id=resource_id, records=[{"n": 3, "what": "new"}], force=True)

    live = portal.dump(resource_id, **{"If-None-Match": old.headers["ETag"]})
    assert live.status == 200
    assert "ETag" not in live.headers
    assert b",new\n" in live.data

    assert portal.dumper.once() == 0
    fresh = portal.dump(resource_id, **{"If-None-Match": old.headers["ETag"]})
    assert "ETag" in fresh.headers
    assert fresh.headers["ETag"] != old.headers["ETag"]
    assert fresh.data == live.data


@pytest.mark.parametrize("damage", ["gone", "short"])
def test_a_file_that_storage_lost_is_ckans_to_answer(portal: Portal, damage: str) -> None:
    resource_id = portal.new_table(f"lost_{damage}")
    whole = portal.dump(resource_id).data
    files = portal.dumper.directory / "files"
    (path,) = [path for path in files.rglob(f"{resource_id}.csv") if path.read_bytes() == whole]
    if damage == "gone":
        path.unlink()
    else:
        path.chmod(0o600)
        path.write_bytes(whole[:-1])
    response = portal.dump(resource_id)
    assert (response.status, response.data) == (200, whole)
    assert "ETag" not in response.headers
    assert re.search(rf"WARNING .*'{resource_id}' goes to CKAN's own dump: .*{path.name}", portal.site.logs)


@pytest.mark.parametrize(
    ("plugins", "settings", "complaint"),
    [
        (PLUGINS, {"ckan.datastore.ms_in_timestamp": "false"}, "made for CKAN 2.12, this is 2.12-noms"),
        ([*PLUGINS, "sample_datastore_plugin"], {}, "different rows of a table: sample_datastore_plugin"),
        (PLUGINS, {"ckanext.datastore_dumper.storage": ""}, "ckanext.datastore_dumper.storage is not set"),
        (PLUGINS, {"ckanext.datastore_dumper.disk.directory": "/nowhere"}, "disk.directory /nowhere does not exist"),
    ],
)
def test_where_files_may_be_wrong_all_dumps_are_ckans(
    portal: Portal, plugins: list[str], settings: dict[str, str], complaint: str
) -> None:
    if "ckan.datastore.ms_in_timestamp" in settings and portal.site.platform.version != "2.12":
        pytest.skip("timestamps have no milliseconds before CKAN 2.12")
    before = len(portal.site.logs)
    try:
        portal.site.restart(plugins, {**portal.settings, **settings})
        for name in (portal.public, "public_alias"):
            response = portal.dump(name)
            assert response.status == 200
            assert "ETag" not in response.headers
        assert complaint in portal.site.logs[before:]
    finally:
        portal.site.restart(PLUGINS, portal.settings)


def test_a_lock_on_our_tables_costs_a_visitor_seconds(portal: Portal) -> None:
    """lookup.TIMEOUT_MS; a worker of CKAN that waited for longer would be missing for everybody else."""
    before = len(portal.site.logs)
    with portal.dumper.database.connect() as admin, admin.transaction():
        admin.execute("LOCK TABLE datastore_dumper.dump_status IN ACCESS EXCLUSIVE MODE")
        admin.execute("SET LOCAL idle_in_transaction_session_timeout = '60s'")
        response = portal.dump(portal.public)
    assert response.status == 200
    assert "ETag" not in response.headers
    assert response.data == portal.without_plugin[f"/datastore/dump/{portal.public}"].body
    complaints = re.findall("cannot say which file is published: .*statement timeout", portal.site.logs[before:])
    assert len(complaints) == 1
    assert "ETag" in portal.dump(portal.public).headers


def test_a_plugin_that_the_operator_vouches_for_is_no_hindrance(portal: Portal) -> None:
    vouched = {"ckanext.datastore_dumper.plugins_without_row_filters": "sample_datastore_plugin"}
    try:
        portal.site.restart([*PLUGINS, "sample_datastore_plugin"], {**portal.settings, **vouched})
        assert "ETag" in portal.dump(portal.public).headers
    finally:
        portal.site.restart(PLUGINS, portal.settings)


def test_a_file_in_a_bucket_is_fetched_from_there(portal: Portal, s3_server: S3Server, s3_bucket: str) -> None:
    bucket = {"endpoint": s3_server.endpoint, "bucket": s3_bucket, "access_key": s3_server.access_key}
    secrets = {"secret_key": s3_server.secret_key}
    resource_id = make_table(portal.site, "bucket")
    core = portal.dump(resource_id).data
    assert portal.dumper.once(storage={"type": "s3", "s3": {**bucket, **secrets, "secure": False}}) == 0
    settings = {f"ckanext.datastore_dumper.s3.{name}": value for name, value in {**bucket, **secrets}.items()}
    try:
        portal.site.restart(
            PLUGINS,
            {"ckanext.datastore_dumper.storage": "s3", "ckanext.datastore_dumper.s3.secure": "false", **settings},
        )
        response = portal.dump("bucket_alias")
        assert response.status == 302
        assert {part.strip() for part in response.headers["Cache-Control"].split(",")} == {"private", "no-store"}
        link = response.headers["Location"]

        head = portal.dump("bucket_alias", method="HEAD")
        fetched = portal.site.http.request("GET", link)
        assert (fetched.status, fetched.data) == (200, core)
        for name in ("Content-Length", "Content-Type", "Content-Disposition", "ETag"):
            assert fetched.headers[name] == head.headers[name]
        part = portal.site.http.request("GET", link, headers={"Range": "bytes=-7"})
        assert (part.status, part.data) == (206, core[-7:])
        assert portal.site.http.request("GET", link.partition("?")[0]).status == 403
        assert portal.dump("bucket_alias", **{"If-None-Match": fetched.headers["ETag"]}).status == 304
    finally:
        portal.site.restart(PLUGINS, portal.settings)


@pytest.mark.parametrize(
    ("plugins", "way_out"),
    [
        (["datastore", "datastore_dumper"], "Put datastore_dumper before datastore"),
        (["datastore_dumper"], "Add datastore after datastore_dumper"),
        (
            ["other_dump", "datastore_dumper", "datastore"],
            "Put datastore_dumper before the plugin of ckan_other_dump",
        ),
    ],
)
def test_a_plugin_order_that_cannot_work_is_refused(
    ckan_platform: CkanPlatform, plugins: list[str], way_out: str
) -> None:
    with pytest.raises(RuntimeError, match=way_out), ckan_platform.site(plugins):
        pass
