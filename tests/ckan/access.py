"""A site with all kinds of people and tables, for the tests of who gets what. The fixture is in `test_access`."""

from __future__ import annotations

import http.client
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import urllib3
from psycopg import sql

from datastore_dumper.install import install
from tests.support.ckan_site import SYSADMIN, CkanPlatform, CkanSite
from tests.support.daemon import Dumper
from tests.support.installation import ROLES, handle
from tests.support.postgres import ScratchDatabase
from tests.support.seaweedfs import S3Server

PLUGINS = ["datastore_dumper", "datastore"]
PREFIX = "ckanext.datastore_dumper."
EXTRA = "csv.gz"
FIELDS = [{"id": "n", "type": "int4"}, {"id": "what", "type": "text"}]
RECORDS = [{"n": n, "what": f"row {n}"} for n in range(6)]
# Names as they stand in a URL. What of them is a table, and what is none, only CKAN can say.
HOSTILE = (
    *("..", "../..", "%2e%2e", "%2e%2e%2f%2e%2e", "..%2fdata", ".", "%00", "a%00b", "%0d%0aSet-Cookie:%20a=b", "%0a"),
    *("'", "%22", "%22;%20drop%20table%20x;%20--", "'%20or%20'1'='1", "%25s", "{id}", "$1", "\\", "%5c..%5c"),
    *("_table_metadata", "pg_class", "pg_catalog.pg_class", "public.public_alias", "datastore_dumper.lookup"),
    *("%c3%28", "%ff", "%e2%80%ae", "%f0%9f%9a%b2", "%20", "+", "a" * 63, "a" * 64, "a" * 3000, "%27" * 900),
)


@dataclass
class Access:
    """The site, which has the plugin or not; the files are in a bucket, so whoever gets one gets a link."""

    site: CkanSite
    dumper: Dumper
    settings: dict[str, str]
    people: dict[str, dict[str, str]]
    """Request headers by who asks."""
    tables: dict[str, str]
    """What to ask for, by what it is."""
    without_plugin: dict[str, int] = field(default_factory=dict)
    """Statuses of the same CKAN before it had the plugin, by `<person> <method> <table>`."""

    def ask(self, person: str, name: str, query: str = "", method: str = "GET") -> urllib3.BaseHTTPResponse:
        return self.site.get(f"/datastore/dump/{quote(name)}{query}", method=method, **self.people[person])

    @contextmanager
    def restarted(self, plugins: list[str], **settings: str) -> Iterator[None]:
        """With other plugins and settings for a while; two underscores stand for a dot."""
        changed = {name.replace("__", "."): value for name, value in settings.items()}
        try:
            self.site.restart(plugins, {**self.settings, **changed})
            yield
        finally:
            self.site.restart(PLUGINS, self.settings)


def questions(access: Access) -> dict[str, tuple[str, str, str]]:
    return {
        f"{person} {method} {table}": (person, method, name)
        for person in access.people
        for table, name in access.tables.items()
        for method in ("GET", "HEAD")
    }


def raw_status(site: CkanSite, path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
    """Of a request whose path nobody has put right on the way."""
    connection = http.client.HTTPConnection("127.0.0.1", site.listener.getsockname()[1], timeout=60)
    try:
        connection.putrequest("GET", path, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        return response.status, dict(response.headers), response.read()
    finally:
        connection.close()


def is_handed_out(response: urllib3.BaseHTTPResponse) -> bool:
    """Whether it is a ready file or leads to one."""
    return any(name in response.headers for name in ("Location", "ETag", "X-Accel-Redirect"))


@contextmanager
def access_site(platform: CkanPlatform, directory: Path, s3: S3Server, bucket: str) -> Iterator[Access]:
    """A new one. All tables are published, and what CKAN answers without the plugin is known."""
    keys = {"endpoint": s3.endpoint, "bucket": bucket, "access_key": s3.access_key, "secret_key": s3.secret_key}
    settings = {
        f"{PREFIX}storage": "s3",
        f"{PREFIX}s3.secure": "false",
        f"{PREFIX}extra_formats": EXTRA,
        # Links alone, whoever asks: a file sent by CKAN would do as well, and is tested elsewhere.
        f"{PREFIX}proxy_with_authorization": "false",
        **{f"{PREFIX}s3.{name}": value for name, value in keys.items()},
    }
    with platform.site(["datastore"]) as site:
        people, tables = _people(site), _tables(site)
        database = ScratchDatabase(platform.postgres, site.databases.datastore)
        assert install(handle(database), ROLES).failed == {}
        dumper = Dumper(
            database,
            directory,
            {
                "database": {"dsn": database.dsn},
                "ckan": {"compat": platform.version},
                "storage": {"type": "s3", "s3": {**keys, "secure": False}},
                "export": {"spool_directory": str(directory), "formats": ["csv", "csv-bom", EXTRA]},
            },
        )
        assert dumper.once() == 0
        _delete(site, tables)
        access = Access(site, dumper, settings, people, tables)
        access.without_plugin = {
            question: access.ask(person, name, method=method).status
            for question, (person, method, name) in questions(access).items()
        }
        site.restart(PLUGINS, settings)
        yield access


def _people(site: CkanSite) -> dict[str, dict[str, str]]:
    """Those who log in on the page have a cookie; the others come with a token, a wrong one, or a password of nobody."""
    organizations = {name: site.action("organization_create", name=name)["id"] for name in ("owner", "other")}
    roles = {
        "member": ("owner", "member"),
        "editor": ("owner", "editor"),
        "stranger": ("other", "editor"),
        "root": None,
    }
    cookies = {}
    for name, role in roles.items():
        site.action("user_create", name=name, email=f"{name}@example.com", password=f"long enough {name}")
        if role:
            site.action("organization_member_create", id=organizations[role[0]], username=name, role=role[1])
        else:
            site.action("user_patch", id=name, sysadmin=True)
        cookies[name] = log_in(site, name, f"long enough {name}")
    tokens = {
        name: site.action("api_token_create", user=name, name="tests")["token"] for name in ("member", "stranger")
    }
    revoked = site.action("api_token_create", user="member", name="revoked")["token"]
    revoking = site.http.request(
        "POST",
        f"{site.url}/api/3/action/api_token_revoke",
        json={"token": revoked},
        headers={"Authorization": site.platform.tokens[SYSADMIN]},
    )
    assert revoking.status == 200, revoking.data
    return {
        "anonymous": {},
        "member": {"Cookie": cookies["member"]},
        "editor": {"Cookie": cookies["editor"]},
        "other organisation": {"Cookie": cookies["stranger"]},
        "sysadmin": {"Cookie": cookies["root"]},
        "sysadmin's token": {"Authorization": site.platform.tokens[SYSADMIN]},
        "member's token": {"Authorization": tokens["member"]},
        "other organisation's token": {"Authorization": tokens["stranger"]},
        "revoked token": {"Authorization": revoked},
        "wrong token": {"Authorization": "wrong"},
        "basic authentication": {"Authorization": "Basic bWVtYmVyOmxvbmcgZW5vdWdoIG1lbWJlcg=="},
        "forged cookie": {"Cookie": cookies["member"][:-4] + "abcd"},
    }


def log_in(site: CkanSite, name: str, password: str) -> str:
    """The cookies of somebody who has logged in on CKAN's page."""
    page = site.get("/user/login")
    jar = cookies_of(page)
    token = re.search(rb'name="_csrf_token"[^>]*(?:value|content)="([^"]+)"', page.data)
    form = {"login": name, "password": password, **({"_csrf_token": token[1].decode()} if token else {})}
    answer = site.http.request(
        "POST",
        f"{site.url}/user/login",
        body=urlencode(form),
        headers={
            "Content-Type": "application/x-www-form-urlencoded",
            "Cookie": jar,
            "Referer": f"{site.url}/user/login",
        },
        redirect=False,
    )
    assert answer.status == 302, (answer.status, answer.data[-2000:])
    return cookies_of(answer) or jar


def cookies_of(response: urllib3.BaseHTTPResponse) -> str:
    return "; ".join(cookie.partition(";")[0] for cookie in response.headers.getlist("Set-Cookie"))


def _tables(site: CkanSite) -> dict[str, str]:
    owner = site.action("organization_show", id="owner")["id"]
    inside: dict[str, Any] = {"owner_org": owner, "private": True}
    tables = {
        "public": make_table(site, "public", owner_org=owner),
        "private": make_table(site, "private", **inside),
        "draft": make_table(site, "draft", owner_org=owner, state="draft"),
        "deleted dataset": make_table(site, "gone", owner_org=owner),
        "deleted resource": make_table(site, "lost", owner_org=owner),
        "orphan": make_table(site, "orphan", owner_org=owner),
    }
    return {
        **tables,
        "alias of public": "public_alias",
        "alias of private": "private_alias",
        "alias of draft": "draft_alias",
        "alias of deleted dataset": "gone_alias",
        "unknown id": "3f0c1e52-6d8f-4d9b-9d4b-111111111111",
    }


def make_table(site: CkanSite, name: str, **dataset: Any) -> str:
    package = site.action("package_create", name=f"{name}_data", **dataset)
    created = site.action(
        "datastore_create",
        resource={"package_id": package["id"], "name": name},
        fields=FIELDS,
        records=RECORDS,
        aliases=[f"{name}_alias"],
    )
    return str(created["resource_id"])


def _delete(site: CkanSite, tables: dict[str, str]) -> None:
    """After publishing: the files are there, and their tables, but for the one whose resource is deleted, are, too."""
    site.action("package_delete", id="gone_data")
    site.action("resource_delete", id=tables["deleted resource"])
    with site.platform.postgres.connect(site.databases.main) as main:  # CKAN itself would drop the table
        main.execute("DELETE FROM resource_view WHERE resource_id = %s", [tables["orphan"]])
        main.execute("DELETE FROM resource WHERE id = %s", [tables["orphan"]])
    with site.platform.postgres.connect(site.databases.datastore) as datastore:
        kept = datastore.execute(
            sql.SQL("SELECT count(*) FROM pg_tables WHERE tablename = ANY(%s)"), [list(tables.values())]
        ).fetchone()
        assert kept == (5,)
