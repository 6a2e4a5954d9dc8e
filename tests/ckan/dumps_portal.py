"""A site with the plugin and dumps in every state, for the tests of actions, commands and pages, and for the screenshots."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg import sql

from datastore_dumper.install import install
from tests.support.ckan_site import CkanPlatform, CkanSite
from tests.support.daemon import Dumper
from tests.support.installation import ROLES, handle
from tests.support.postgres import ScratchDatabase

PLUGINS = ["datastore_dumper", "datastore"]
PREFIX = "ckanext.datastore_dumper."
FORMATS = ("csv", "csv-bom", "tsv-bom", "json", "xml", "csv.gz", "parquet")
EXTRA = "csv.gz parquet"
PASSWORD = "correct horse battery"
COUNTS, COUNTERS, AIR, STATIONS, BUDGET, SECRET = TABLES = (
    "Counts by hour",
    "Counters",
    "Nitrogen dioxide by station",
    "Stations",
    "Budget 2026",
    "Draft budget 2027",
)
_DATASETS = {
    "cycle-traffic": ("Cycle traffic", {COUNTS: 60_000, COUNTERS: 40}),
    "air-quality": ("Air quality", {AIR: 9_000, STATIONS: 12}),
    "budget": ("Budget", {BUDGET: 700}),
    "next-budget": ("Next budget", {SECRET: 300}),
}
FIELDS = [{"id": "place", "type": "text"}, {"id": "measured", "type": "timestamp"}, {"id": "value", "type": "int4"}]


@dataclass
class DumpsPortal:
    """The site. Nothing exports unless a test has it run. All tables but the last are everybody's."""

    site: CkanSite
    dumper: Dumper
    settings: dict[str, str]
    ids: dict[str, str]
    """Of resources, by name."""
    tokens: dict[str, str]
    """Of users: `root` is a sysadmin, `editor` and `member` are of the organization that all is of, `stranger` of none."""

    def sql(self, statement: str, *arguments: object) -> list[tuple[Any, ...]]:
        """As the superuser of the DataStore."""
        with self.dumper.database.connect() as admin:
            cursor = admin.execute(statement.encode(), arguments)
            return cursor.fetchall() if cursor.description else []

    def change(self, name: str) -> None:
        """In one transaction, of CKAN's write role."""
        with self.dumper.database.connect("ckan_write") as writer:
            writer.execute(
                sql.SQL("UPDATE {} SET value = value + 1 WHERE _id = 1").format(sql.Identifier(self.ids[name]))
            )

    def publish(self) -> None:
        assert self.dumper.once() == 0

    def lease(self, name: str, rows: int, expected: int | None) -> None:
        """As if a daemon were so far with its export, for a minute."""
        self.sql(
            "UPDATE datastore_dumper.resource SET lease_owner = 'somewhere:1', exporting_since = clock_timestamp(), "
            "lease_until = clock_timestamp() + interval '1 minute', exported_rows = %s, expected_rows = %s "
            "WHERE resource_id = %s",
            rows,
            expected,
            self.ids[name],
        )

    def fail(self, name: str, error: str) -> None:
        """As if exports had failed."""
        self.sql(
            "UPDATE datastore_dumper.resource SET last_error = %s, attempts = 3, "
            "retry_at = clock_timestamp() + interval '5 minutes' WHERE resource_id = %s",
            error,
            self.ids[name],
        )

    def settle(self) -> None:
        """No lease, no failure, no request."""
        self.sql(
            "UPDATE datastore_dumper.resource SET lease_owner = NULL, lease_until = NULL, exporting_since = NULL, "
            "exported_rows = NULL, expected_rows = NULL, last_error = NULL, attempts = 0, retry_at = NULL, "
            "requested_at = NULL, requested_full = false"
        )
        self.publish()


@contextmanager
def dumps_portal(platform: CkanPlatform, directory: Path) -> Iterator[DumpsPortal]:
    """A new one, with everything published."""
    files = directory / "files"
    files.mkdir()
    settings = {
        f"{PREFIX}storage": "disk",
        f"{PREFIX}disk.directory": str(files),
        f"{PREFIX}extra_formats": EXTRA,
        "ckan.locales_offered": "en de",
        "ckan.gravatar_default": "disabled",  # nothing is fetched from elsewhere
    }
    databases: list[ScratchDatabase] = []

    def prepare(made: Any) -> None:
        databases.append(ScratchDatabase(platform.postgres, made.datastore))
        install(handle(databases[0]), ROLES)

    with platform.site(PLUGINS, settings, before_start=prepare) as site:
        dumper = Dumper(
            databases[0],
            directory,
            {
                "database": {"dsn": databases[0].dsn_for("dumper")},
                "roles": {"daemon": "dumper", "ckan_write": "ckan_write", "ckan_read": "ckan_read"},
                "debounce": {"quiet_seconds": 600, "max_delay_seconds": 600},
                "export": {"spool_directory": str(directory), "formats": list(FORMATS)},
                "storage": {"type": "disk", "disk": {"directory": str(files)}},
                "ckan": {"compat": platform.version},
                "log": {"format": "json"},
            },
        )
        portal = DumpsPortal(site, dumper, settings, {}, {})
        _fill(portal)
        portal.publish()
        yield portal


def _fill(portal: DumpsPortal) -> None:
    site = portal.site
    owner = site.action("organization_create", name="city", title="City council")["id"]
    for name, role in {"root": None, "editor": "editor", "member": "member", "stranger": None}.items():
        site.action("user_create", name=name, email=f"{name}@example.com", password=PASSWORD)
        if name == "root":
            site.action("user_patch", id=name, sysadmin=True)
        if role:
            site.action("organization_member_create", id=owner, username=name, role=role)
        portal.tokens[name] = site.action("api_token_create", user=name, name="tests")["token"]
    for name, (title, tables) in _DATASETS.items():
        private = name == "next-budget"
        package = site.action("package_create", name=name, title=title, owner_org=owner, private=private)
        for table, rows in tables.items():
            portal.ids[table] = site.action(
                "datastore_create", resource={"package_id": package["id"], "name": table}, fields=FIELDS
            )["resource_id"]
            with portal.dumper.database.connect("ckan_write") as writer:
                statement = (
                    "INSERT INTO {} (place, measured, value) SELECT 'Bridge ' || n %% 9, "
                    "timestamp '2026-01-01' + n * interval '1 hour', n * 37 %% 1009 FROM generate_series(1, %s) AS n"
                )
                writer.execute(sql.SQL(statement).format(sql.Identifier(portal.ids[table])), [rows])
