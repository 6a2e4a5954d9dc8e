"""What all ways share: one Postgres, one storage, one running CKAN, and the same table in each database.

CKAN's own DataStore has one, which is what CKAN, the job and the script read. Each variant of the product has a copy, so
that it finds its changes alone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from minio import Minio

from bench.compare.changes import Load, write_file
from bench.compare.meter import Meter
from bench.download import counting_postgres
from bench.tables import RESOURCE_ID, load
from datastore_dumper.errors import UnavailableError
from tests.support.ckan_env import ckan_environment
from tests.support.ckan_site import CkanPlatform, CkanSite, Databases
from tests.support.datastore import DUMPER_ROLE, READ_ROLE, WRITE_ROLE, prepare_datastore
from tests.support.postgres import PostgresServer, ScratchDatabase
from tests.support.proxy import Proxy, proxy_to
from tests.support.seaweedfs import S3Server, running_s3

BUCKET = "compare"
WEB_WORKERS = 2
# What autovacuum does comes when it likes, and would be counted as whose turn it is.
_SETTINGS = {"autovacuum": "off"}
_IN_THE_CLEAR = "?sslmode=disable&gssencmode=disable"  # the proxy reads messages


@dataclass
class Stage:
    """`portal` is CKAN's DataStore, `copies` has a database for each name that was asked for."""

    load: Load
    directory: Path
    say: Callable[[str], None]
    version: str
    postgres_bin: Path
    server: PostgresServer
    meter: Meter
    s3: S3Server
    site: CkanSite
    portal: ScratchDatabase
    copies: dict[str, ScratchDatabase]
    proxy: Proxy
    counts: bool = True
    """Whether everybody reads from Postgres by way of the proxy, which counts."""

    def dsn(self, database: ScratchDatabase, role: str) -> str:
        """How somebody who makes files connects now."""
        dsn = database.dsn_for(role)
        return self.proxy.dsn(dsn) if self.counts else dsn

    @property
    def bucket(self) -> Minio:
        return self.s3.client()

    @property
    def databases(self) -> list[ScratchDatabase]:
        return [self.portal, *self.copies.values()]

    def stop_counting(self) -> None:
        """From now on everybody connects directly, and CKAN answers as it does on a portal: by processes."""
        self.counts = False
        self.site.restart(["datastore"], {}, workers=WEB_WORKERS)


@contextmanager
def open_stage(
    rows: int, commits: int, quiet_seconds: float, copies: list[str], say: Callable[[str], None]
) -> Iterator[Stage]:
    """Start all of it and load the tables. fsync and all else of Postgres is as it comes, but autovacuum."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="datastore-dumper-compare-")))
        postgres = stack.enter_context(counting_postgres(_SETTINGS))
        server = PostgresServer(postgres.tcp_dsn())
        server.create_roles(WRITE_ROLE, READ_ROLE, DUMPER_ROLE)
        with server.connect() as admin:
            if admin.execute("SELECT to_regclass('pg_stat_statements')").fetchone() == (None,):
                raise UnavailableError("this Postgres has no pg_stat_statements, which says what statements cost")
        s3 = stack.enter_context(running_s3())
        s3.client().make_bucket(BUCKET)
        proxy = stack.enter_context(proxy_to(postgres.tcp_dsn()))
        load = Load(rows, commits, quiet_seconds, directory / "load.csv")
        loaded = _load_copies(server, load, copies, say)
        platform = stack.enter_context(CkanPlatform.start(ckan_environment(), server))
        # Known only once the databases are there, before CKAN connects to them.
        settings: dict[str, str] = {}

        def lead_through_proxy(databases: Databases) -> None:
            url = server.url(databases.datastore, READ_ROLE)
            settings["ckan.datastore.read_url"] = url.replace(f":{postgres.port}/", f":{proxy.port}/") + _IN_THE_CLEAR

        site = stack.enter_context(platform.site(["datastore"], settings, before_start=lead_through_proxy))
        portal = ScratchDatabase(server, site.databases.datastore)
        _load_portal(site, portal, load, say)
        yield Stage(
            load=load,
            directory=directory,
            say=say,
            version=postgres.binaries.version,
            postgres_bin=postgres.binaries.bin_directory,
            server=server,
            meter=Meter(server, postgres.pid, s3.pid),
            s3=s3,
            site=site,
            portal=portal,
            copies=loaded,
            proxy=proxy,
        )


def _load_copies(
    server: PostgresServer, about: Load, names: list[str], say: Callable[[str], None]
) -> dict[str, ScratchDatabase]:
    say(f"loading {about.rows:,} rows, {len(names)} times")
    first = ScratchDatabase(server, server.create_database("compare"))
    with first.connect() as admin:
        prepare_datastore(admin)
        write_file(admin, about)
    load(first, about.rows)
    others = [ScratchDatabase(server, server.create_database("compare", template=first.name)) for _ in names[1:]]
    return dict(zip(names, [first, *others], strict=True))


def _load_portal(site: CkanSite, portal: ScratchDatabase, about: Load, say: Callable[[str], None]) -> None:
    say(f"loading {about.rows:,} rows for CKAN")
    package = site.action("package_create", name="compare")["id"]
    # With its first table CKAN makes its type `nested`.
    site.action("datastore_create", resource={"package_id": package}, fields=[{"id": "a", "type": "text"}])
    site.action("resource_create", package_id=package, id=RESOURCE_ID, url="", name="compare")
    load(portal, about.rows)
