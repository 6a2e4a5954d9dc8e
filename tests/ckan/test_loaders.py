"""Whatever writes into a real CKAN's DataStore, while exports run: loads succeed, and the files end as CKAN's own dumps."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from psycopg import sql

from datastore_dumper.install import install
from tests.support.ckan_site import SYSADMIN, CkanPlatform, CkanSite
from tests.support.daemon import Dumper
from tests.support.datastore import WRITE_ROLE
from tests.support.installation import ROLES, handle
from tests.support.loading import FileServer, file_server, job_worker, wait_for_load
from tests.support.postgres import Connection, ScratchDatabase
from tests.support.waiting import eventually

pytestmark = pytest.mark.ckan

BUSY = {"quiet_seconds": 0.05, "max_delay_seconds": 1}
QUIET_SECONDS = 8
CHUNK_BYTES = 40_000  # of xloader's COPYs, each a transaction
PLUGINS = ["datastore_dumper", "tabledesigner", "xloader", "datastore"]
SINCE_2_11 = {"tabledesigner"}


@dataclass
class Portal:
    site: CkanSite
    dumper: Dumper
    package_id: str

    def download(self, resource_id: str, query: str = "") -> tuple[bytes, bool]:
        """What a browser gets, and whether that is a ready file."""
        response = self.site.http.request(
            "GET", f"{self.site.url}/datastore/dump/{resource_id}{query}", redirect=True, retries=3
        )
        assert response.status == 200, response.data[:500]
        return response.data, "ETag" in response.headers

    def live(self, resource_id: str) -> bytes:
        data, is_file = self.download(resource_id, "?latest=true")
        assert not is_file
        return data

    def expect_file(self, resource_id: str) -> bytes:
        """Soon a ready file answers, with the bytes of CKAN's own dump."""
        eventually(lambda: self.download(resource_id)[1])
        data, is_file = self.download(resource_id)
        assert is_file
        assert data == self.live(resource_id)
        return data

    def make_table(self, **values: Any) -> str:
        created = self.site.action(
            "datastore_create",
            resource={"package_id": self.package_id},
            fields=[{"id": "key", "type": "text"}, {"id": "n", "type": "int"}],
            primary_key=["key"],
            records=[{"key": str(n), "n": n} for n in range(2000)],
            **values,
        )
        return str(created["resource_id"])

    @property
    def is_2_10(self) -> bool:
        return not (self.site.platform.environment.site_packages / "ckanext" / "tabledesigner").exists()

    def delete_records(self, resource_id: str, **filters: Any) -> None:
        action = "datastore_delete" if self.is_2_10 else "datastore_records_delete"
        self.site.action(action, resource_id=resource_id, filters=filters, force=True)

    def writer(self) -> Connection:
        return self.dumper.database.connect(WRITE_ROLE)

    def objects(self, resource_id: str) -> list[str]:
        return [stored.key for stored in self.dumper.storage.list(resource_id)]


@pytest.fixture(scope="module")
def portal(
    ckan_version: str, ckan_platform: CkanPlatform, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Portal]:
    directory = tmp_path_factory.mktemp("loaders")
    files = directory / "files"
    files.mkdir()
    with ckan_platform.site(["datastore"]) as site:
        database = ScratchDatabase(ckan_platform.postgres, site.databases.datastore)
        install(handle(database), ROLES)
        dumper = Dumper(
            database,
            directory,
            {
                "database": {"dsn": database.dsn_for("dumper")},
                "roles": {"daemon": "dumper", "ckan_write": "ckan_write", "ckan_read": "ckan_read"},
                "debounce": {"quiet_seconds": QUIET_SECONDS, "max_delay_seconds": 600},
                "ckan": {"compat": ckan_version},
                "look": {"reconcile_interval_seconds": 1},
                "export": {
                    "spool_directory": str(directory),
                    "formats": ["csv"],
                    "segment_bytes": 65536,
                    "retry_initial_seconds": 0.1,
                },
                "storage": {
                    "type": "disk",
                    "disk": {"directory": str(files)},
                    "link_expiry_seconds": 1,
                    "grace_seconds": 0,
                },
                "log": {"format": "json"},
            },
        )
        package = site.action("package_create", name="loaded")
        portal = Portal(site, dumper, package["id"])
        site.restart(
            [plugin for plugin in PLUGINS if not (portal.is_2_10 and plugin in SINCE_2_11)],
            {
                "ckanext.datastore_dumper.storage": "disk",
                "ckanext.datastore_dumper.disk.directory": str(files),
                "ckanext.xloader.api_token": ckan_platform.tokens[SYSADMIN],
                "ckanext.xloader.jobs_db.uri": f"sqlite:///{site.directory}/xloader.db",
                "ckanext.xloader.copy_chunk_size": str(CHUNK_BYTES),
                "ckanext.xloader.site_url": site.url,
            },
        )
        yield portal


@pytest.fixture
def files() -> Iterator[FileServer]:
    with file_server() as server:
        yield server


def rows(start: int, count: int, columns: tuple[str, ...] = ("key", "text")) -> bytes:
    lines = [",".join(columns), *(",".join(f"{name} {n}" for name in columns) for n in range(start, start + count))]
    return "\n".join(lines).encode() + b"\n"


ROWS = 12_000  # about six chunks
OTHER_COLUMNS = ("key", "other", "more")


@contextmanager
def loads(portal: Portal, files: FileServer) -> Iterator[Callable[..., str]]:
    """`load(content)` has xloader load a file into one resource, and gives its id."""
    resource_id = ""
    with job_worker(portal.site):

        def load(content: bytes) -> str:
            nonlocal resource_id
            files.content = content
            if resource_id:
                portal.site.action("xloader_submit", resource_id=resource_id, ignore_hash=True)
            else:
                created = portal.site.action(
                    "resource_create", package_id=portal.package_id, url=files.url, format="CSV"
                )
                resource_id = created["id"]
            wait_for_load(portal.site, resource_id)
            return resource_id

        yield load


def test_xloader_makes_one_file_for_each_load(portal: Portal, files: FileServer) -> None:
    with portal.dumper.running() as daemon, loads(portal, files) as load:
        ids = []
        for number, content in enumerate((rows(0, ROWS), rows(5, ROWS - 7), rows(0, ROWS, OTHER_COLUMNS)), 1):
            resource_id = load(content)
            count = content.count(b"\n") - 1
            daemon.wait_for("published", resource_id=resource_id, rows=count)
            data = portal.expect_file(resource_id)
            assert data.count(b"\n") == count + 1
            assert len(daemon.all("published", resource_id=resource_id)) == number
            with portal.writer() as writer:
                ids.append(writer.execute("SELECT to_regclass(quote_ident(%s))::oid", [resource_id]).fetchone())
        log = (portal.site.directory / "worker.log").read_text()
        assert f'Clearing records for "{resource_id}"' in log  # TRUNCATE
        assert f'Deleting "{resource_id}" from DataStore' in log  # DROP
        assert ids[0] == ids[1] != ids[2]
        assert log.count("Completed chunked processing") >= 3
        assert "Copied chunk 4" in log


@pytest.mark.skipif(os.environ.get("LOADERS") != "all", reason="half a minute more: make test-ckan runs it")
def test_xloader_is_not_disturbed_by_exports_that_run_all_the_time(portal: Portal, files: FileServer) -> None:
    with portal.dumper.running(debounce=BUSY) as daemon, loads(portal, files) as load:
        for content in (rows(0, ROWS), rows(1, ROWS), rows(0, ROWS, OTHER_COLUMNS), rows(1, ROWS, OTHER_COLUMNS)):
            resource_id = load(content)
        portal.expect_file(resource_id)
        assert len(daemon.all("published", resource_id=resource_id)) > 4
        assert daemon.all("export_crashed") == []


def test_truncate_and_copy_freeze_as_datapusher_plus_does(portal: Portal) -> None:
    resource_id = portal.make_table()
    table = sql.Identifier(resource_id)
    with portal.dumper.running(debounce=BUSY) as daemon, portal.writer() as writer:
        portal.expect_file(resource_id)
        for number in range(6):
            with writer.transaction():
                writer.execute(sql.SQL("TRUNCATE TABLE {}").format(table))
                copy_freeze = sql.SQL(
                    "COPY {} (key, n) FROM STDIN WITH (FORMAT CSV, FREEZE 1, HEADER 1, ENCODING 'UTF8')"
                ).format(table)
                with writer.cursor().copy(copy_freeze) as copy:
                    copy.write("key,n\n" + "".join(f"{number}-{n},{n}\n" for n in range(20_000)))
            if number % 2:
                writer.execute(sql.SQL("VACUUM ANALYZE {}").format(table))
                name = sql.Identifier(f"{resource_id}_{number}")
                writer.execute(sql.SQL("CREATE INDEX {} ON {} (n)").format(name, table))
            daemon.wait_for("published", number + 2, resource_id=resource_id)
        data = portal.expect_file(resource_id)
        assert data.count(b"\n") == 20_001
        assert b"5-19999,19999" in data
        assert daemon.all("export_crashed") == []


def test_tabledesigner(portal: Portal) -> None:
    site = portal.site
    if portal.is_2_10:
        pytest.skip("tabledesigner came with CKAN 2.11")
    resource_id = site.action("resource_create", package_id=portal.package_id, url_type="tabledesigner")["id"]

    def design(*fields: dict[str, str]) -> None:
        """As the form of the data dictionary does."""
        form = {
            f"fields__{number}__{name}": value for number, field in enumerate(fields) for name, value in field.items()
        } | {f"info__{number}__label": f"The {field['id']}" for number, field in enumerate(fields)}
        answer = site.http.request(
            "POST",
            f"{site.url}/dataset/{portal.package_id}/dictionary/{resource_id}",
            fields=form,
            encode_multipart=False,
            headers={"Authorization": site.platform.tokens[SYSADMIN]},
            redirect=False,
        )
        assert answer.status == 302, (answer.status, answer.data[-3000:], site.logs[-3000:])

    code = {"id": "code", "tdtype": "text", "tdpkreq": "pk"}
    number = {"id": "number", "tdtype": "integer", "tdpkreq": "req"}
    with portal.dumper.running(debounce=BUSY):
        design(code, number)
        assert portal.expect_file(resource_id) == b"_id,code,number\r\n"
        site.action(
            "datastore_upsert",
            resource_id=resource_id,
            records=[{"code": "a", "number": 1}, {"code": "b", "number": 2}],
        )
        assert portal.expect_file(resource_id).count(b"\n") == 3
        site.action("datastore_upsert", resource_id=resource_id, records=[{"code": "a", "number": 7}])
        assert b"1,a,7\n" in portal.expect_file(resource_id)
        portal.delete_records(resource_id, code=["a"])
        assert portal.expect_file(resource_id) == b"_id,code,number\r\n2,b,2\n"
        design(code, {"id": "on", "tdtype": "boolean", "tdpkreq": ""})  # one column goes, another comes
        assert portal.expect_file(resource_id) == b"_id,code,on\r\n2,b,\n"


def test_triggers_of_ckan(portal: Portal) -> None:
    site = portal.site
    site.action(
        "datastore_function_create",
        name="shout",
        or_replace=True,
        rettype="trigger",
        definition="BEGIN NEW.key := upper(NEW.key); RETURN NEW; END;",
    )
    with portal.dumper.running(debounce=BUSY):
        resource_id = portal.make_table()
        site.action("datastore_upsert", resource_id=resource_id, records=[{"key": "small", "n": 1}], force=True)
        assert b"small,1" in portal.expect_file(resource_id)
        # CKAN drops all triggers whose names look like its own, and makes them anew.
        site.action("datastore_create", resource_id=resource_id, triggers=[{"function": "shout"}], force=True)
        portal.expect_file(resource_id)
        with portal.writer() as writer:
            writer.execute(sql.SQL("UPDATE {} SET _id = _id").format(sql.Identifier(resource_id)))
        assert b"SMALL,1" in portal.expect_file(resource_id)
        # The same statement from CKAN. 2.12 leaves its transaction open, so nothing comes of it and the row stays locked.
        site.action("datastore_run_triggers", resource_id=resource_id, force=True)
        portal.expect_file(resource_id)


def test_what_is_deleted_leaves_no_file(portal: Portal) -> None:
    site = portal.site
    other = site.action("package_create", name="to-be-purged")["id"]
    purged = Portal(site, portal.dumper, other)
    with portal.dumper.running(debounce=BUSY):
        by_filter, dropped, resource, dataset = (
            portal.make_table(), portal.make_table(), portal.make_table(), purged.make_table()
        )  # fmt: skip
        for each in (by_filter, dropped, resource, dataset):
            portal.expect_file(each)

        portal.delete_records(by_filter, n=[1, 2])
        assert portal.expect_file(by_filter).count(b"\n") == 1999
        site.action("datastore_delete", resource_id=dropped, force=True)
        site.action("resource_delete", id=resource)
        site.action("dataset_purge", id=other)
        for each in (dropped, resource, dataset):
            # CKAN's own answer: 404, or 500 for a table whose resource is gone.
            answer = site.get(f"/datastore/dump/{each}")
            assert answer.status in (404, 500)
            assert "ETag" not in answer.headers
        # CKAN leaves a purged dataset's tables, and `ckan datastore purge` of 2.12 fails on them: an administrator drops them.
        assert portal.objects(dataset)
        with portal.writer() as writer:
            writer.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(dataset)))
        eventually(lambda: not any(portal.objects(each) for each in (dropped, resource, dataset)))
        assert portal.objects(by_filter)
