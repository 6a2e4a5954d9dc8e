"""`ckan.datastore.read_url` at a standby that lags: a file never shows another state than CKAN's own dump would."""

from __future__ import annotations

from pathlib import Path

import pytest

from datastore_dumper.install import install
from tests.ckan.access import PLUGINS, PREFIX, make_table
from tests.support.ckan_env import ckan_environment
from tests.support.ckan_site import CkanPlatform
from tests.support.daemon import Dumper
from tests.support.datastore import READ_ROLE
from tests.support.installation import ROLES, handle
from tests.support.postgres import PostgresServer, ScratchDatabase
from tests.support.standby import StandbyServer

pytestmark = pytest.mark.ckan


def test_behind_its_primary(
    ckan_version: str, primary_server: PostgresServer, standby_server: StandbyServer, tmp_path: Path
) -> None:
    files = tmp_path / "files"
    files.mkdir()
    environment = ckan_environment(ckan_version)
    with (
        CkanPlatform.start(environment, primary_server) as platform,
        platform.site(["datastore"]) as site,
        standby_server.connect() as standby,
    ):
        resource_id = make_table(site, "lagging")
        database = ScratchDatabase(primary_server, site.databases.datastore)
        assert install(handle(database), ROLES).failed == {}
        dumper = Dumper(
            database,
            tmp_path,
            {
                "database": {"dsn": database.dsn},
                "ckan": {"compat": platform.version},
                "storage": {"type": "disk", "disk": {"directory": str(files)}},
                "export": {"spool_directory": str(tmp_path), "formats": ["csv"]},
            },
        )
        assert dumper.once() == 0
        with database.connect() as primary:
            standby_server.caught_up(primary)
        settings = {
            f"{PREFIX}storage": "disk",
            f"{PREFIX}disk.directory": str(files),
            "ckan.datastore.read_url": standby_server.url(site.databases.datastore, READ_ROLE),
        }
        site.restart(PLUGINS, settings)

        def dumps() -> tuple[bool, bytes, bytes]:
            """Whether it is a file, the dump, and CKAN's own."""
            answer, live = (site.get(f"/datastore/dump/{resource_id}{query}") for query in ("", "?latest=true"))
            assert answer.status == live.status == 200
            return "ETag" in answer.headers, answer.data, live.data

        is_file, old, live = dumps()
        assert is_file
        assert old == live
        standby.execute("SELECT pg_wal_replay_pause()")
        try:
            site.action("datastore_upsert", resource_id=resource_id, records=[{"n": 99}], method="insert", force=True)
            # The standby knows of no change, and CKAN's own dump, which reads there, has none either.
            assert dumps() == (True, old, old)
            assert dumper.once() == 0
            assert dumps() == (True, old, old)
            # Its file is deleted in the end, of which it does not know.
            (superseded,) = [path for path in files.rglob("*.csv") if path.read_bytes() == old]
            superseded.unlink()
            assert dumps() == (False, old, old)
        finally:
            standby.execute("SELECT pg_wal_replay_resume()")
        with database.connect() as primary:
            standby_server.caught_up(primary)
        is_file, new, live = dumps()
        assert is_file
        assert new == live != old
        # Nobody has asked for long: the first to ask is heard, though the standby cannot be written to.
        with database.connect() as primary:
            primary.execute("UPDATE datastore_dumper.resource SET asked_at = now() - interval '1 year'")
            assert dumper.once(tables={"policy": "on_demand"}) == 0
            standby_server.caught_up(primary)
            site.restart(PLUGINS, settings)  # which looks at most once in a minute
            assert dumps() == (False, new, new)
            assert dumper.once(tables={"policy": "on_demand"}) == 0
            standby_server.caught_up(primary)
        assert dumps() == (True, new, new)
