"""How files are handed out, from a directory and from a bucket: links, files, nginx, and through CKAN; and what caches and
proxies make of it. nginx is a real one, configured as deploy/nginx has it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import urllib3

from datastore_dumper.install import install
from tests.ckan.access import FIELDS, PLUGINS, PREFIX, make_table
from tests.support.ckan_site import SYSADMIN, CkanPlatform, CkanSite
from tests.support.daemon import Dumper
from tests.support.installation import ROLES, handle
from tests.support.nginx import deployed, nginx_before, nginx_server
from tests.support.postgres import ScratchDatabase
from tests.support.seaweedfs import S3Server

pytestmark = pytest.mark.ckan

BEHIND = "Datastore-Dump-Behind-Seconds"
# What a browser and a scripted client have in common. urllib3 follows no redirects here.
HTTP = urllib3.PoolManager(timeout=urllib3.Timeout(60), retries=False)
NAME = 'Bus "stops"; à/到着\r\nSet-Cookie: x=1 🚌'


@dataclass
class Portal:
    """A site with the plugin, whose daemon has published its tables."""

    site: CkanSite
    dumper: Dumper
    settings: dict[str, str]
    public: str
    private: str
    live: bytes
    """CKAN's own dump of either."""
    base: str = ""
    """Where to ask, if not CKAN itself."""
    members: dict[str, str] = field(default_factory=dict)

    def dump(self, name: str, query: str = "", method: str = "GET", **headers: str) -> urllib3.BaseHTTPResponse:
        url = f"{self.base or self.site.url}/datastore/dump/{name}{query}"
        return HTTP.request(method, url, headers=headers, redirect=False)

    @contextmanager
    def restarted(
        self, plugins: list[str] = PLUGINS, core: Mapping[str, str] = MappingProxyType({}), **settings: str
    ) -> Iterator[None]:
        """With other settings for a while: of ours, and `core` of CKAN."""
        changed = {PREFIX + name.replace("__", "."): value for name, value in settings.items()}
        try:
            self.site.restart(plugins, {**self.settings, **core, **changed})
            yield
        finally:
            self.site.restart(PLUGINS, self.settings)

    @contextmanager
    def behind_nginx(self, directory: Path, locations: str) -> Iterator[None]:
        with nginx_before(self.site.url, directory, locations) as self.base:
            try:
                yield
            finally:
                self.base = ""

    def change(self, resource_id: str, n: int) -> None:
        self.site.action("datastore_upsert", resource_id=resource_id, records=[{"n": n}], method="insert", force=True)


@contextmanager
def published(
    platform: CkanPlatform, directory: Path, settings: dict[str, str], storage: dict[str, Any]
) -> Iterator[Portal]:
    settings = {PREFIX + name: value for name, value in settings.items()}
    with platform.site(["datastore"]) as site:
        owner = site.action("organization_create", name="owner")["id"]
        public = make_table(site, "public", owner_org=owner)
        private = make_table(site, "private", owner_org=owner, private=True)
        live = site.get(f"/datastore/dump/{public}").data
        database = ScratchDatabase(platform.postgres, site.databases.datastore)
        assert install(handle(database), ROLES).failed == {}
        dumper = Dumper(
            database,
            directory,
            {
                "database": {"dsn": database.dsn},
                "ckan": {"compat": platform.version},
                "storage": storage,
                "export": {"spool_directory": str(directory), "formats": ["csv", "csv.gz"]},
            },
        )
        assert dumper.once() == 0
        site.restart(PLUGINS, settings)
        member = {"Authorization": platform.tokens[SYSADMIN]}
        yield Portal(site, dumper, settings, public, private, live, members=member)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dumper")


@pytest.fixture(scope="module")
def on_disk(ckan_platform: CkanPlatform, directory: Path) -> Iterator[Portal]:
    files = directory / "files"
    files.mkdir()
    settings = {"storage": "disk", "disk.directory": str(files)}
    storage = {"type": "disk", "disk": {"directory": str(files)}}
    with published(ckan_platform, directory, settings, storage) as portal:
        yield portal


@pytest.fixture(scope="module")
def keys(s3_server: S3Server) -> dict[str, str]:
    s3_server.client().make_bucket("delivery")
    given = {"endpoint": s3_server.endpoint, "bucket": "delivery"}
    return {**given, "access_key": s3_server.access_key, "secret_key": s3_server.secret_key}


@pytest.fixture(scope="module")
def in_bucket(
    ckan_platform: CkanPlatform, tmp_path_factory: pytest.TempPathFactory, keys: dict[str, str]
) -> Iterator[Portal]:
    settings = {"storage": "s3", "s3.secure": "false", **{f"s3.{name}": value for name, value in keys.items()}}
    storage = {"type": "s3", "s3": {**keys, "secure": False}}
    with published(ckan_platform, tmp_path_factory.mktemp("dumper"), settings, storage) as portal:
        yield portal


def cache_control(response: urllib3.BaseHTTPResponse) -> set[str]:
    return {part.strip() for part in response.headers.get("Cache-Control", "").split(",")} - {""}


def assert_resumable(portal: Portal) -> None:
    """Ranges and conditions, as whoever sends the file answers them."""
    whole = portal.dump(portal.public)
    etag, length = whole.headers["ETag"], len(portal.live)
    part = portal.dump(portal.public, Range="bytes=3-9")
    assert (part.status, part.data) == (206, portal.live[3:10])
    assert part.headers["Content-Range"] == f"bytes 3-9/{length}"
    rest = portal.dump(portal.public, **{"Range": "bytes=10-", "If-Range": etag})
    assert (rest.status, rest.data) == (206, portal.live[10:])
    other = portal.dump(portal.public, **{"Range": "bytes=10-", "If-Range": '"other"'})
    assert (other.status, other.data) == (200, portal.live)
    assert portal.dump(portal.public, Range=f"bytes={length}-").status == 416
    known = portal.dump(portal.public, **{"If-None-Match": etag})
    assert (known.status, known.data) == (304, b"")
    head = portal.dump(portal.public, method="HEAD")
    assert (head.status, head.headers["Content-Length"], head.headers["ETag"]) == (200, str(length), etag)


def test_nginx_sends_files_from_a_directory(on_disk: Portal, directory: Path, tmp_path: Path) -> None:
    files = {"/var/lib/datastore-dumper/files/": f"{directory}/files/"}
    with (
        on_disk.restarted(delivery="accel", public_cache_seconds="60"),
        on_disk.behind_nginx(tmp_path / "nginx", deployed("accel-disk.conf", files)),
    ):
        told = on_disk.site.get(f"/datastore/dump/{on_disk.public}")
        assert told.data == b""
        assert told.headers["X-Accel-Redirect"].startswith(f"/_datastore_dumps/{on_disk.public}/")

        response = on_disk.dump(on_disk.public)
        assert (response.status, response.data) == (200, on_disk.live)
        assert response.headers["Content-Disposition"] == f'attachment; filename="{on_disk.public}.csv"'
        assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
        assert cache_control(response) == {"public", "max-age=60"}
        assert "X-Accel-Redirect" not in response.headers
        assert_resumable(on_disk)

        member = on_disk.dump(on_disk.private, **on_disk.members)
        assert (member.status, member.data) == (200, on_disk.live)
        assert cache_control(member) == {"private", "no-cache"}
        assert on_disk.dump(on_disk.private).status == 404
        # Nobody gets in by the location itself, or by naming it.
        key = told.headers["X-Accel-Redirect"]
        for path in (key, key.replace("/_datastore_dumps/", "/_datastore_dumps/../_datastore_dumps/")):
            assert HTTP.request("GET", on_disk.base + path).status == 404
        # Not a header that a client sends.
        assert on_disk.dump("nothing", **{"X-Accel-Redirect": key}).status == 404


def test_no_cache_keeps_what_nginx_does_not_find(on_disk: Portal, tmp_path: Path) -> None:
    """CKAN found the file that nginx does not: the directory is mounted elsewhere, or not readable."""
    (tmp_path / "empty").mkdir()
    files = {"/var/lib/datastore-dumper/files/": f"{tmp_path}/empty/"}
    with (
        on_disk.restarted(delivery="accel", public_cache_seconds="60"),
        on_disk.behind_nginx(tmp_path / "nginx", deployed("accel-disk.conf", files)),
    ):
        for name, headers in ((on_disk.public, {}), (on_disk.private, on_disk.members)):
            missing = on_disk.dump(name, **headers)
            assert missing.status == 404
            assert cache_control(missing) in (set(), {"private", "no-cache"})
            assert not {"ETag", "Expires", "Last-Modified"} & set(missing.headers)
    # What CKAN itself does not find, it says nothing of to nginx.
    resource_id = make_table(on_disk.site, "lost")
    assert on_disk.dumper.once() == 0
    (path,) = (on_disk.dumper.directory / "files").rglob(f"{resource_id}.csv")
    with on_disk.restarted(delivery="accel"):
        assert "X-Accel-Redirect" in on_disk.dump(resource_id).headers
        path.chmod(0o600)
        path.write_bytes(b"short")
        for remains in (True, False):
            if not remains:
                path.unlink()
            response = on_disk.dump(resource_id)
            assert (response.status, response.data) == (200, on_disk.live)
            assert "X-Accel-Redirect" not in response.headers


@pytest.mark.parametrize("delivery", ["file", "accel"])
def test_a_link_out_of_the_directory_is_not_followed(on_disk: Portal, tmp_path: Path, delivery: str) -> None:
    secret = tmp_path / "secret"
    resource_id = make_table(on_disk.site, f"linked_{delivery}")
    assert on_disk.dumper.once() == 0
    (path,) = (on_disk.dumper.directory / "files").rglob(f"{resource_id}.csv")
    secret.write_bytes(b"x" * path.stat().st_size)  # so that not its length gives it away
    path.unlink()
    path.symlink_to(secret)
    other = tmp_path / "elsewhere"
    with on_disk.restarted(delivery=delivery), on_disk.dumper.database.connect() as admin:
        assert_left_to_ckan(on_disk, resource_id)
        path.parent.rename(other)
        path.parent.symlink_to(other, target_is_directory=True)
        assert_left_to_ckan(on_disk, resource_id)
        # Such a key cannot come from the daemon, but whoever may write to its schema may write one.
        for key in (f"../{delivery}", f"a/../../{delivery}", f"/etc/{delivery}", f"a/{delivery}\nSet-Cookie: b"):
            admin.execute(
                "UPDATE datastore_dumper.dump_status SET storage_key = %s WHERE resource_id = %s AND format = 'csv'",
                [key, resource_id],
            )
            assert_left_to_ckan(on_disk, resource_id)


def assert_left_to_ckan(portal: Portal, resource_id: str) -> None:
    response = portal.dump(resource_id)
    assert (response.status, response.data) == (200, portal.live)
    assert not {"X-Accel-Redirect", "ETag", "Location"} & set(response.headers)
    assert "Set-Cookie: b" not in str(response.headers)


def test_everybody_may_have_what_caches_may_keep(on_disk: Portal) -> None:
    site = on_disk.site
    assert cache_control(on_disk.dump(on_disk.public)) == {"private", "no-cache"}
    before = len(site.logs)
    token_header = dict.fromkeys(("apitoken_header_name", "apikey_header_name"), "X-Token")
    with on_disk.restarted(core=token_header, public_cache_seconds="120"):
        public = on_disk.dump(on_disk.public)
        assert cache_control(public) == {"public", "max-age=120"}
        # Also where somebody without a login has a session, which a cache would hand on to others.
        visited = "; ".join(
            cookie.partition(";")[0] for cookie in site.get("/user/login").headers.getlist("Set-Cookie")
        )
        for answer in (
            public,
            on_disk.dump(on_disk.public, Cookie=visited),
            on_disk.dump(on_disk.public, Cookie="a=b"),
        ):
            assert "Set-Cookie" not in answer.headers
            assert answer.headers["Vary"] == "Origin"
        known = on_disk.dump(on_disk.public, **{"If-None-Match": public.headers["ETag"]})
        assert (known.status, cache_control(known)) == (304, {"public", "max-age=120"})
        # A cache that does not look at these headers would refuse the file to everybody else.
        for status, header in ((412, {"If-Match": '"other"'}), (416, {"Range": "bytes=999999-"})):
            refused = on_disk.dump(on_disk.public, **header)
            assert (refused.status, cache_control(refused)) == (status, {"private", "no-cache"})
        # Who is logged in is answered alone, and so is who has a private table.
        for name in (on_disk.public, on_disk.private):
            own = on_disk.dump(name, **{"X-Token": on_disk.members["Authorization"]})
            assert own.status == 200
            assert cache_control(own) == {"private", "no-cache"}
            assert {"Cookie", "Authorization", "X-Token"} <= {part.strip() for part in own.headers["Vary"].split(",")}
    with on_disk.restarted(public_cache_seconds="300"):
        assert "public_cache_seconds is 300, but links expire after 300 s" in site.logs[before:]
        assert "ETag" not in on_disk.dump(on_disk.public).headers


def test_files_may_be_as_far_behind_as_the_site_and_the_resource_say(on_disk: Portal) -> None:
    site = on_disk.site
    resource_id = make_table(site, "behind")
    assert on_disk.dumper.once() == 0
    old = on_disk.dump(resource_id)
    assert BEHIND not in old.headers
    on_disk.change(resource_id, 99)
    assert "ETag" not in on_disk.dump(resource_id).headers

    def own(seconds: object) -> None:
        site.action("resource_patch", id=resource_id, datastore_dump_max_staleness_seconds=seconds)

    with on_disk.restarted(max_staleness_seconds="3600", extra_formats="csv.gz"):
        for query, data in (("", old.data), ("?format=csv.gz", None)):
            response = on_disk.dump(resource_id, query)
            assert response.status == 200
            assert data is None or response.data == data
            assert 1 <= int(response.headers[BEHIND]) <= 3600
        assert BEHIND not in on_disk.dump(on_disk.public).headers
        live = on_disk.dump(resource_id, "?latest=true")
        assert b"99," in live.data
        assert BEHIND not in live.headers
        for seconds in (0, "0", "soon", -1):
            own(seconds)
            response = on_disk.dump(resource_id)
            assert "ETag" not in response.headers, seconds
            assert b"99," in response.data
        assert "datastore_dump_max_staleness_seconds is 'soon'" in site.logs
        own("")
        assert "ETag" in on_disk.dump(resource_id).headers
    own(7200)
    response = on_disk.dump(resource_id)
    assert response.data == old.data
    assert BEHIND in response.headers
    # Columns that have changed are no matter of time.
    site.action(
        "datastore_create", resource_id=resource_id, fields=[*FIELDS, {"id": "new", "type": "text"}], force=True
    )
    assert "ETag" not in on_disk.dump(resource_id).headers
    assert on_disk.dumper.once() == 0
    assert BEHIND not in on_disk.dump(resource_id).headers


def test_names_in_any_script(on_disk: Portal) -> None:
    """RFC 6266; nothing in a name can end the header or begin another."""
    resource_id = make_table(on_disk.site, "names")
    on_disk.site.action("resource_patch", id=resource_id, name=NAME)
    assert on_disk.dumper.once() == 0
    with on_disk.restarted(filename="name"):
        response = on_disk.dump(resource_id)
        assert "Set-Cookie" not in response.headers or "x=1" not in response.headers["Set-Cookie"]
        disposition = response.headers["Content-Disposition"]
        assert re.fullmatch(
            r'attachment; filename="[^"\r\n]+\.csv"; filename\*=UTF-8\'\'[A-Za-z0-9._~%-]+\.csv', disposition
        )
        assert "%E5%88%B0%E7%9D%80" in disposition
        on_disk.site.action("resource_patch", id=resource_id, name="n" * 8000)
        assert len(on_disk.dump(resource_id).headers["Content-Disposition"]) < 800


def test_a_link_or_the_file_for_who_brings_credentials(in_bucket: Portal) -> None:
    """S3 answers 400 to two kinds of credentials, and many programs send the header on to where they are redirected."""
    assert in_bucket.dump(in_bucket.public).status == 302
    for name in (in_bucket.public, in_bucket.private):
        sent = in_bucket.dump(name, **in_bucket.members)
        assert (sent.status, sent.data) == (200, in_bucket.live)
        assert sent.headers["Content-Length"] == str(len(in_bucket.live))
        assert cache_control(sent) == {"private", "no-cache"}
    strange = in_bucket.dump(in_bucket.public, Authorization="Basic YTpi")
    assert (strange.status, strange.data) == (200, in_bucket.live)
    with in_bucket.restarted(proxy_with_authorization="false", public_cache_seconds="60"):
        assert in_bucket.dump(in_bucket.private, **in_bucket.members).status == 302
        redirect = in_bucket.dump(in_bucket.public)
        assert cache_control(redirect) == {"public", "max-age=60"}
        assert "X-Amz-Expires=300" in redirect.headers["Location"]


def test_ckan_sends_files_from_a_bucket(in_bucket: Portal) -> None:
    with in_bucket.restarted(**{"delivery": "redirect", "s3__delivery": "proxy"}):
        assert in_bucket.dump(in_bucket.public).data == in_bucket.live
        assert_resumable(in_bucket)
        assert in_bucket.dump(in_bucket.private).status == 404
        assert in_bucket.dump(in_bucket.private, **in_bucket.members).data == in_bucket.live


def test_nginx_fetches_files_from_a_bucket(in_bucket: Portal, keys: dict[str, str], tmp_path: Path) -> None:
    changes = {
        "https://s3.example.org/": f"http://{keys['endpoint']}/",
        "Host s3.example.org": f"Host {keys['endpoint']}",
    }
    with (
        in_bucket.restarted(delivery="accel", public_cache_seconds="60"),
        in_bucket.behind_nginx(tmp_path / "nginx", deployed("accel-s3.conf", changes)),
    ):
        response = in_bucket.dump(in_bucket.public)
        assert (response.status, response.data) == (200, in_bucket.live)
        assert response.headers.getlist("Content-Disposition") == [f'attachment; filename="{in_bucket.public}.csv"']
        assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
        assert cache_control(response) == {"public", "max-age=60"}
        assert_resumable(in_bucket)
        member = in_bucket.dump(in_bucket.private, **in_bucket.members)
        assert (member.status, member.data) == (200, in_bucket.live)
        assert cache_control(member) == {"private", "no-cache"}
        told = in_bucket.site.get(f"/datastore/dump/{in_bucket.public}").headers["X-Accel-Redirect"]
        assert HTTP.request("GET", in_bucket.base + told).status == 404
        # A file that is gone: CKAN knows within a minute, and meanwhile no cache keeps what the service says.
        resource_id = make_table(in_bucket.site, "gone")
        assert in_bucket.dumper.once() == 0
        assert in_bucket.dump(resource_id).status == 200
        _delete_files(in_bucket, resource_id)
        missing = in_bucket.dump(resource_id)
        assert missing.status == 404
        assert "max-age=60" not in cache_control(missing)
        assert not {"ETag", "Expires"} & set(missing.headers)


def _delete_files(portal: Portal, resource_id: str) -> None:
    for stored in list(portal.dumper.storage.list(resource_id)):
        portal.dumper.storage.delete(stored.key)


@pytest.mark.patient
def test_links_lead_to_the_public_endpoint(in_bucket: Portal, keys: dict[str, str], tmp_path: Path) -> None:
    """Which is a proxy that passes the Host on: links are signed for it."""
    server = deployed(
        "public-endpoint.conf",
        {
            "listen 443 ssl": "listen 127.0.0.1:@port@",
            "    ssl_certificate /etc/ssl/files.example.org.pem;\n": "",
            "    ssl_certificate_key /etc/ssl/private/files.example.org.key;\n": "",
            "minio.internal:9000": keys["endpoint"],
        },
    )
    with (
        nginx_server(tmp_path / "nginx", server) as public,
        in_bucket.restarted(**{"s3__public_endpoint": public, "s3__public_secure": "false"}),
    ):
        link = in_bucket.dump(in_bucket.public).headers["Location"]
        assert link.startswith(f"http://{public}/{keys['bucket']}/")
        fetched = HTTP.request("GET", link)
        assert (fetched.status, fetched.data) == (200, in_bucket.live)
        assert HTTP.request("GET", link, headers={"Range": "bytes=-7"}).data == in_bucket.live[-7:]
        assert HTTP.request("GET", link.partition("?")[0]).status == 403
        assert HTTP.request("PUT", link, body=b"x").status == 403


@pytest.mark.patient
def test_settings_of_s3filestore_and_its_download_proxy(
    in_bucket: Portal, keys: dict[str, str], tmp_path: Path
) -> None:
    """Its links are signed for the true host, and the proxy puts that one back."""
    server = (
        "server { listen 127.0.0.1:@port@; location / { "
        f"proxy_pass http://{keys['endpoint']}; proxy_set_header Host {keys['endpoint']}; }} }}"
    )
    filestore = {
        "aws_bucket_name": keys["bucket"],
        "region_name": "us-east-1",
        "signature_version": "s3v4",
        "aws_access_key_id": keys["access_key"],
        "aws_secret_access_key": keys["secret_key"],
        "host_name": f"http://{keys['endpoint']}",
        "acl": "public-read",
        "signed_url_expiry": "900",
    }
    with nginx_server(tmp_path / "nginx", server) as proxy:
        filestore["download_proxy"] = f"http://{proxy}/"
        settings = {f"ckanext.s3filestore.{name}": value for name, value in filestore.items()}
        try:
            in_bucket.site.restart(PLUGINS, {f"{PREFIX}storage": "s3filestore", **settings})
            link = in_bucket.dump(in_bucket.public).headers["Location"]
            assert link.startswith(f"http://{proxy}/{keys['bucket']}/datastore-dumps/")
            assert "X-Amz-Expires=900" in link
            fetched = HTTP.request("GET", link)
            assert (fetched.status, fetched.data) == (200, in_bucket.live)
            assert HTTP.request("GET", link.partition("?")[0]).status == 403
        finally:
            in_bucket.site.restart(PLUGINS, in_bucket.settings)


def test_the_daemon_needs_no_more_than_ckans_ini(ckan_platform: CkanPlatform, tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    settings = {f"{PREFIX}storage": "disk", f"{PREFIX}disk.directory": str(files)}
    with ckan_platform.site(PLUGINS, settings) as site:
        resource_id = make_table(site, "alone")
        live = site.get(f"/datastore/dump/{resource_id}").data
        program = [sys.executable, "-m", "datastore_dumper"]
        environment = {"PATH": os.environ["PATH"], "DATASTORE_DUMPER_CKAN_INI": str(site.directory / "ckan.ini")}
        environment["DATASTORE_DUMPER_CKAN__COMPAT"] = ckan_platform.version
        environment["DATASTORE_DUMPER_INSTALL_DSN"] = site.datastore_dsn
        for command in (["install"], ["run", "--once"]):
            subprocess.run([*program, *command], env=environment, cwd=tmp_path, check=True, timeout=120)
        response = site.get(f"/datastore/dump/{resource_id}")
        assert "ETag" in response.headers
        assert response.data == live


@pytest.mark.patient
def test_settings_of_ckan_files(on_disk: Portal, tmp_path: Path) -> None:
    if on_disk.site.platform.version != "2.12":
        pytest.skip("CKAN has such storages from 2.12 on")
    files = tmp_path / "ckan"
    files.mkdir()
    (files / "datastore-dumps").symlink_to(on_disk.dumper.directory / "files", target_is_directory=True)
    settings = {f"{PREFIX}storage": "ckan.files:local", "ckan.files.storage.local.type": "ckan:fs"}
    try:
        on_disk.site.restart(PLUGINS, {**settings, "ckan.files.storage.local.path": str(files)})
        assert on_disk.dump(on_disk.public).data == on_disk.live
        assert "ETag" in on_disk.dump(on_disk.public).headers
    finally:
        on_disk.site.restart(PLUGINS, on_disk.settings)


@pytest.mark.patient
def test_settings_of_a_bucket_of_ckan_files(in_bucket: Portal) -> None:
    """CKAN itself opens the same storage, by the adapter of ckanext-file-keeper-cloud."""
    if in_bucket.site.platform.version != "2.12":
        pytest.skip("CKAN has such storages from 2.12 on")
    keys = {name.rpartition(".")[2]: value for name, value in in_bucket.settings.items()}
    storage = {
        "type": "ckan:s3",
        "bucket": keys["bucket"],
        "key": keys["access_key"],
        "secret": keys["secret_key"],
        "region": "us-east-1",
        "endpoint": f"http://{keys['endpoint']}",
    }
    settings = {f"ckan.files.storage.cloud.{name}": value for name, value in storage.items()}
    try:
        in_bucket.site.restart([*PLUGINS, "file_keeper_cloud"], {f"{PREFIX}storage": "ckan.files:cloud", **settings})
        link = in_bucket.dump(in_bucket.public).headers["Location"]
        assert link.startswith(f"http://{keys['endpoint']}/{keys['bucket']}/datastore-dumps/")
        assert HTTP.request("GET", link).data == in_bucket.live
    finally:
        in_bucket.site.restart(PLUGINS, in_bucket.settings)


def test_a_link_to_nothing_is_never_made(in_bucket: Portal) -> None:
    resource_id = make_table(in_bucket.site, "deleted")
    assert in_bucket.dumper.once() == 0
    _delete_files(in_bucket, resource_id)
    for method in ("GET", "HEAD"):
        response = in_bucket.dump(resource_id, method=method)
        assert response.status == 200
        assert not {"Location", "ETag"} & set(response.headers)
    assert in_bucket.dump(in_bucket.public).status == 302
    with in_bucket.restarted(storage_check_seconds="0"):
        assert in_bucket.dump(resource_id).status == 302


@pytest.mark.parametrize("settings", [{}, {"s3__delivery": "proxy", "storage_check_seconds": "0"}])
def test_a_service_that_does_not_answer_is_no_ones_trouble(in_bucket: Portal, settings: dict[str, str]) -> None:
    before = len(in_bucket.site.logs)
    with in_bucket.restarted(s3__endpoint="127.0.0.1:1", **settings):
        for _ in range(3):
            response = in_bucket.dump(in_bucket.public)
            assert (response.status, response.data) == (200, in_bucket.live)
            assert not {"Location", "ETag"} & set(response.headers)
        logged = in_bucket.site.logs[before:]
        lines = re.findall(rf"WARNING .*{in_bucket.public}.* goes to CKAN's own dump: (.*)", logged)
        assert len(lines) == 3
        assert "127.0.0.1:1" in lines[0]
        # Nobody waits for it again soon.
        assert lines[1:] == ["the storage did not answer a moment ago"] * 2
        assert "Traceback" not in logged
        assert in_bucket.settings[f"{PREFIX}s3.secret_key"] not in logged
