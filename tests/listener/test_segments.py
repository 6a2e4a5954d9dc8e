"""Large tables, in small: many segments in worker processes, and re-exports that read and send what changed."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from datastore_dumper.failpoints import VARIABLE
from datastore_dumper.install import install
from tests.support.daemon import Dumper, read_process
from tests.support.datastore import create_table
from tests.support.installation import ROLES, handle
from tests.support.seaweedfs import S3Server
from tests.support.waiting import eventually

ROWS = 150_000
SEGMENT = {"segment_bytes": 256 * 1024, "workers": 2}


@pytest.fixture(params=["disk", "s3"])
def big(request: pytest.FixtureRequest, dumper: Dumper, s3_server: S3Server, s3_bucket: str) -> Dumper:
    """A published table t of about 9 segments."""
    if request.param == "s3":
        dumper.settings["storage"] = s3_server.settings(s3_bucket)
    dumper.settings["export"].update(SEGMENT)
    install(handle(dumper.database), ROLES)
    with dumper.database.connect("ckan_write") as writer:
        create_table(writer, "t", {"a": "text"})
        writer.execute("ALTER TABLE t DISABLE TRIGGER zfulltext")
        writer.execute(f"INSERT INTO t (a) SELECT 'row ' || i FROM generate_series(1, {ROWS}) i")
    return dumper


def expected(dumper: Dumper) -> bytes:
    with (
        dumper.database.connect() as admin,
        admin.cursor().copy("COPY (SELECT _id, a FROM t ORDER BY _id) TO STDOUT csv") as copy,
    ):
        return b"_id,a\r\n" + b"".join(bytes(data) for data in copy)


def manifest(dumper: Dumper, format_name: str = "csv") -> dict[str, Any]:
    with dumper.database.connect() as admin:
        row = admin.execute(
            "SELECT manifest FROM datastore_dumper.dump_status WHERE format = %s", [format_name]
        ).fetchone()
    assert row is not None
    return dict(row[0])


def assert_published(dumper: Dumper) -> None:
    whole = expected(dumper)
    assert dumper.file("t") == whole
    assert dumper.file("t", "csv-bom") == b"\xef\xbb\xbf" + whole
    for name in ("csv", "csv-bom"):
        file = dumper.file("t", name)
        segments = manifest(dumper, name)["segments"]
        assert sum(segment["rows"] for segment in segments) == whole.count(b"\n") - 1
        assert segments[0]["first"] is segments[-1]["last"] is None
        for segment in segments:
            piece = file[segment["offset"] : segment["offset"] + segment["length"]]
            assert hashlib.sha256(piece).hexdigest() == segment["sha256"]


def change(dumper: Dumper, statement: str) -> None:
    with dumper.database.connect("ckan_write") as writer:
        writer.execute(statement.encode())


@pytest.mark.parametrize("big", ["disk"], indirect=True)
def test_any_change_is_published_and_little_is_read_for_it(big: Dumper) -> None:
    with big.running() as daemon:
        first = daemon.wait_for("published")
        assert len(manifest(big)["segments"]) > 5
        assert_published(big)
        whole = first["read_bytes"]
        assert whole == len(expected(big)) - len(b"_id,a\r\n")
        for number, (statement, share) in enumerate(
            [
                ("UPDATE t SET a = 'first' WHERE _id = 1", 0.2),
                ("UPDATE t SET a = 'middle' WHERE _id = 50000", 0.2),
                ("UPDATE t SET a = 'last' WHERE _id = 150000", 0.2),
                ("DELETE FROM t WHERE _id = 20000", 0.2),
                ("DELETE FROM t WHERE _id BETWEEN 16384 AND 32767", 0.3),
                ("INSERT INTO t (a) SELECT 'appended' FROM generate_series(1, 1000)", 0.3),
                ("INSERT INTO t (_id, a) VALUES (2147483647, 'far')", 0.3),
                ("INSERT INTO t (_id, a) VALUES (20000, 'in the gap')", 0.3),
                ("INSERT INTO t (_id, a) VALUES (-9000, 'negative')", 0.4),
                ("UPDATE t SET _id = 16384 WHERE _id = 60000", 0.5),
                ("UPDATE t SET a = repeat(a, 30) WHERE _id BETWEEN 40960 AND 49151", 2.0),
                ("UPDATE t SET a = 'narrow' WHERE _id BETWEEN 40960 AND 49151", 2.0),
            ],
            start=2,
        ):
            change(big, statement)
            event = daemon.wait_for("published", number)
            assert_published(big)
            assert event["read_bytes"] <= share * whole, statement
        change(big, "TRUNCATE t")
        daemon.wait_for("published", rows=0)
        assert_published(big)
        change(big, "INSERT INTO t (a) VALUES ('again')")
        daemon.wait_for("published", rows=1)
        assert_published(big)


@pytest.mark.parametrize("big", ["disk"], indirect=True)
def test_segments_of_a_table_with_gaps_have_their_size(big: Dumper) -> None:
    """The first few are cut by ids alone, and show that these say little. Loaded again, it is cut in the same places."""
    load = f"TRUNCATE t; INSERT INTO t (_id, a) SELECT i * 50, 'row ' || i FROM generate_series(1, {ROWS}) i"
    change(big, load)
    with big.running() as daemon:
        daemon.wait_for("published")
        lengths = [segment["length"] for segment in manifest(big)["segments"]]
        assert len([length for length in lengths if length < SEGMENT["segment_bytes"] // 4]) <= 6
        assert max(lengths) <= 2 * SEGMENT["segment_bytes"]
        before = [stored.key for stored in big.storage.list()]
        change(big, load)
        daemon.wait_for("unchanged")
        assert [stored.key for stored in big.storage.list()] == before
        assert_published(big)


@pytest.mark.parametrize("big", ["disk"], indirect=True)
def test_nothing_is_reused_while_a_trigger_is_not_sound(big: Dumper) -> None:
    """Changes that no trigger saw would be missing in what is reused: a file that shows no state at all."""
    with big.running() as daemon, big.database.connect() as admin:
        daemon.wait_for("published")
        admin.execute("ALTER TABLE t ENABLE TRIGGER datastore_dumper_update")  # it was ENABLE ALWAYS
        change(big, "UPDATE t SET a = 'seen' WHERE _id = 50000")
        daemon.wait_for("published", 2)
        admin.execute("SET session_replication_role = replica")
        admin.execute("UPDATE t SET a = 'unseen' WHERE _id = 1")
        change(big, "UPDATE t SET a = 'seen, too' WHERE _id = 50000")
        daemon.wait_for("published", 3)
        assert_published(big)


@pytest.mark.parametrize("big", ["s3"], indirect=True)
def test_in_a_bucket_the_storage_copies_what_did_not_change(big: Dumper) -> None:
    with big.running() as daemon:
        daemon.wait_for("published")
        change(big, "UPDATE t SET a = repeat('wide', 40)")  # some 17 MB: parts of 5 MiB and more
        daemon.wait_for("published", 2)
        assert_published(big)
        change(big, "UPDATE t SET a = 'changed' WHERE _id = 90000")
        event = daemon.wait_for("published", 3)
        assert_published(big)
        assert event["read_bytes"] < 3_000_000
        assert event["reused_bytes"] > event["uploaded_bytes"]


def test_equal_segments_keep_the_object(big: Dumper) -> None:
    with big.running() as daemon:
        daemon.wait_for("published")
        before = [stored.key for stored in big.storage.list()]
        change(big, "UPDATE t SET a = a WHERE _id % 10000 = 0")
        daemon.wait_for("unchanged")
        assert [stored.key for stored in big.storage.list()] == before
        assert_published(big)


@pytest.mark.parametrize("damage", ["gone", "overwritten", "manifest", "etag"])
@pytest.mark.parametrize("big", ["disk"], indirect=True)
def test_what_cannot_be_reused_is_made_anew(big: Dumper, damage: str) -> None:
    with big.running() as daemon:
        daemon.wait_for("published")
        with big.database.connect() as admin:
            key = admin.execute("SELECT storage_key FROM datastore_dumper.dump_status WHERE format = 'csv'").fetchone()[
                0
            ]
            path = Path(big.settings["storage"]["disk"]["directory"]) / key
            if damage == "gone":
                path.unlink()
            elif damage == "overwritten":
                path.chmod(0o600)
                path.write_bytes(b"x" * path.stat().st_size)
            elif damage == "manifest":
                broken = {**manifest(big), "head_length": 1}
                admin.execute("UPDATE datastore_dumper.dump_status SET manifest = %s", [json.dumps(broken)])
            else:
                admin.execute("UPDATE datastore_dumper.dump_status SET etag = 'other'")
        change(big, "UPDATE t SET a = 'changed' WHERE _id = 50000")
        daemon.wait_for("manifest_unusable" if damage == "manifest" else "reuse_failed")
        event = daemon.wait_for("published", 2)
        assert event["read_bytes"] >= len(expected(big)) * 0.9
        assert_published(big)


@pytest.mark.parametrize("big", ["disk"], indirect=True)
def test_a_writer_who_truncates_during_an_export_does_not_wait_long(big: Dumper) -> None:
    """And what is published in the end is what is there in the end."""
    with big.running() as daemon, big.database.connect("ckan_write") as writer:
        writer.execute("SET lock_timeout = '15s'")  # as xloader
        for number in range(5):
            eventually(lambda: exporting(big) or made_due(big, writer))
            writer.execute("TRUNCATE t RESTART IDENTITY")
            writer.execute(f"INSERT INTO t (a) SELECT 'load {number} ' || i FROM generate_series(1, {ROWS}) i")
        eventually(lambda: big.is_fresh())
        assert_published(big)
        assert daemon.all("export_crashed") == []


@pytest.mark.parametrize("big", ["disk"], indirect=True)
def test_a_killed_worker_process_costs_a_retry(big: Dumper, tmp_path: Path) -> None:
    held = {VARIABLE: f"worker/within_segment=pause:{tmp_path}"}
    with big.running(held, export={"segment_bytes": 64 * 1024}) as daemon:
        eventually((tmp_path / "within_segment").exists)
        workers = daemon.worker_processes()
        assert workers
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        (tmp_path / "within_segment.release").touch()
        daemon.wait_for("export_failed")
        eventually(lambda: big.is_fresh())
        assert_published(big)


@pytest.mark.parametrize("big", ["disk"], indirect=True)
def test_a_file_that_is_gone_before_its_twin_is_copied_from_it(big: Dumper, tmp_path: Path) -> None:
    """The one with a byte order mark is the other with another head."""
    with big.running({VARIABLE: f"after_complete=pause:{tmp_path}"}) as daemon:
        eventually((tmp_path / "after_complete").exists)
        (path,) = (big.directory / "files").rglob("t.csv")
        path.unlink()
        (tmp_path / "after_complete.release").touch()
        daemon.wait_for("reuse_failed", resource_id="t")
        daemon.wait_for("published", resource_id="t")
        assert_published(big)
        assert daemon.all("export_crashed") == []


@pytest.mark.parametrize("big", ["disk"], indirect=True)
def test_kill_9_leaves_no_process_behind(big: Dumper) -> None:
    with big.running() as daemon:
        eventually(lambda: len(daemon.children()) >= 2)
        pids = daemon.children()
        daemon.kill()
        eventually(
            lambda: not any(read_process(Path(f"/proc/{pid}/cmdline")) for pid in pids),
        )


def made_due(dumper: Dumper, writer: psycopg.Connection) -> bool:
    """Have it exported again where the last export was quicker than this test. It is not being exported yet."""
    if dumper.is_fresh():
        writer.execute("UPDATE t SET a = a WHERE _id = 1")
    return False


def exporting(dumper: Dumper) -> bool:
    with dumper.database.connect() as admin:
        return (
            admin.execute("SELECT FROM datastore_dumper.resource WHERE exporting_since IS NOT NULL").fetchone()
            is not None
        )
