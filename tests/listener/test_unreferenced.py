"""Objects that nobody knows of: a running daemon deletes them, slowly, and nothing else."""

from __future__ import annotations

import os
import time
from datetime import datetime, timezone
from itertools import pairwise
from pathlib import Path

import pytest

from datastore_dumper.failpoints import VARIABLE
from datastore_dumper.leftovers import enlist_unreferenced
from datastore_dumper.publish import announce
from datastore_dumper.storage.base import BytesPart, ObjectHeaders
from datastore_dumper.storage.keys import new_version, object_key
from tests.support.daemon import Dumper
from tests.support.installation import handle
from tests.support.postgres import Connection
from tests.support.waiting import eventually

# So that all that there is counts as old.
_OLD = -3600


@pytest.fixture(params=["disk", "s3"])
def stored(dumper: Dumper, request: pytest.FixtureRequest) -> Dumper:
    """The dumper with each kind of storage."""
    if request.param == "s3":
        server = request.getfixturevalue("s3_server")
        dumper.settings["storage"] = server.settings(request.getfixturevalue("s3_bucket"))
    return dumper


def leave(dumper: Dumper, resource_id: str = "gone") -> str:
    """An object as the daemon writes them, and its key."""
    key = object_key(resource_id, new_version(datetime.now(timezone.utc)), "csv")
    dumper.storage.write(key, [BytesPart(b"left")], ObjectHeaders("text/csv", "left.csv"))
    return key


def enlisted(dumper: Dumper) -> dict[str, float]:
    """What is to be deleted, and in how many seconds."""
    with dumper.database.connect() as admin:
        return dict(
            admin.execute(
                "SELECT key, extract(epoch FROM delete_after - clock_timestamp())::float8 FROM datastore_dumper.garbage"
            ).fetchall()
        )


def enlist(dumper: Dumper, abandoned_seconds: float = _OLD) -> int:
    with handle(dumper.database, "dumper").connect("test") as connection:
        return enlist_unreferenced(connection, dumper.storage.list(), abandoned_seconds, 1000)


def test_only_what_is_on_no_list_is_enlisted(stored: Dumper, writer: Connection) -> None:
    assert stored.once() == 0
    superseded = {stored_.key for stored_ in stored.storage.list()}
    writer.execute("INSERT INTO t (a) VALUES ('x')")
    assert stored.once() == 0
    with handle(stored.database, "dumper").connect("test") as connection:
        announced = leave(stored)
        announce(connection, announced)
    stored.storage.write("something/else.csv", [BytesPart(b"x")], ObjectHeaders("text/csv", "else.csv"))
    before = enlisted(stored)
    assert set(before) == superseded | {announced}
    assert enlist(stored) == 0

    unreferenced = leave(stored)
    assert enlist(stored, 24 * 3600) == 0, "it is young"
    assert enlist(stored) == 1
    assert set(enlisted(stored)) == {*before, unreferenced}
    assert enlisted(stored)[unreferenced] == pytest.approx(1000, abs=60), "downloads under way may finish"
    assert enlist(stored) == 0


def test_they_go_one_after_the_other(dumper: Dumper, writer: Connection) -> None:
    for number in range(40):
        leave(dumper, f"gone{number}")
    assert enlist(dumper) == 40
    times = sorted(enlisted(dumper).values())
    assert all(0.05 < later - earlier < 0.15 for earlier, later in pairwise(times))


def test_what_is_being_published_is_not_enlisted(dumper: Dumper, writer: Connection, tmp_path: Path) -> None:
    """Its key is off the list, and not in the status yet: that transaction is not committed."""
    mark = tmp_path / "within_publish"
    # Its transaction is idle meanwhile, which Postgres puts up with for as long as the lease.
    with dumper.running({VARIABLE: f"within_publish=pause:{tmp_path}"}, lease={"ttl_seconds": 120}) as daemon:
        eventually(mark.exists)
        assert len(list(dumper.storage.list())) == 2
        assert enlist(dumper) == 0
        mark.with_name(f"{mark.name}.release").touch()
        daemon.wait_for("published", resource_id="t")
    assert enlisted(dumper) == {}
    assert dumper.file("t") == b"_id,a\r\n"


def test_a_running_daemon_deletes_them(dumper: Dumper, writer: Connection) -> None:
    old, young = leave(dumper), leave(dumper)
    root = Path(dumper.settings["storage"]["disk"]["directory"])
    two_days_ago = time.time() - 2 * 24 * 3600
    os.utime(root / old, (two_days_ago, two_days_ago))
    with dumper.running(
        storage={"link_expiry_seconds": 1, "grace_seconds": 0}, look={"reconcile_interval_seconds": 1}
    ) as daemon:
        daemon.wait_for("unreferenced_found", objects=1)
        daemon.wait_for("published", resource_id="t")
        eventually(lambda: not (root / old).exists())
        assert (root / young).exists()
        assert dumper.file("t") == b"_id,a\r\n"
