"""The real daemon as a process: it hears, waits, exports, publishes, cleans up, and survives what happens to it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import psycopg
import pytest

from datastore_dumper.install import install
from datastore_dumper.storage.disk_files import temporary_name
from tests.support.daemon import Dumper
from tests.support.datastore import create_table
from tests.support.installation import ROLES, handle
from tests.support.waiting import eventually


@pytest.fixture
def writer(dumper: Dumper):
    """A DataStore with our SQL installed and one table t, and a connection of CKAN's write role."""
    install(handle(dumper.database), ROLES)
    with dumper.database.connect("ckan_write") as connection:
        create_table(connection, "t", {"a": "text"})
        yield connection


def expected(connection: psycopg.Connection, table: str = "t") -> bytes:
    """The file as it must be, by Postgres alone."""
    with connection.cursor().copy(f'COPY (SELECT _id, a FROM "{table}" ORDER BY _id) TO STDOUT csv') as copy:
        return b"_id,a\r\n" + b"".join(bytes(data) for data in copy)


def is_fresh(dumper: Dumper, resource_id: str = "t", format_name: str = "csv") -> bool:
    with dumper.database.connect("ckan_read") as reader:
        row = reader.execute("SELECT fresh FROM datastore_dumper.lookup(%s, %s)", [resource_id, format_name]).fetchone()
        return bool(row and row[0])


def objects(dumper: Dumper) -> list[str]:
    return [stored.key for stored in dumper.storage.list()]


def test_a_change_becomes_a_file(dumper: Dumper, writer) -> None:
    with dumper.running() as daemon:
        daemon.wait_for("published", resource_id="t")
        writer.execute("INSERT INTO t (a) VALUES ('x'), (NULL), (''), ('quo\"te'), (E'new\\nline')")
        daemon.wait_for("published", resource_id="t", rows=5)
        assert is_fresh(dumper)
        assert dumper.file("t") == expected(writer)
        assert dumper.file("t", "csv-bom") == b"\xef\xbb\xbf" + expected(writer)


def test_a_burst_becomes_one_file(dumper: Dumper, writer) -> None:
    with dumper.running(debounce={"quiet_seconds": 1}) as daemon:
        daemon.wait_for("published", resource_id="t")
        for number in range(100):
            writer.execute("INSERT INTO t (a) VALUES (%s)", [str(number)])
            assert not is_fresh(dumper)
        daemon.wait_for("published", resource_id="t", rows=100)
        assert len(daemon.all("published", resource_id="t")) == 2
        assert dumper.file("t") == expected(writer)


def test_a_table_that_never_rests_is_published_after_the_max_delay(dumper: Dumper, writer) -> None:
    with dumper.running(debounce={"quiet_seconds": 30, "max_delay_seconds": 30}) as daemon:
        assert daemon.all("published") == []
    with dumper.running(debounce={"quiet_seconds": 1, "max_delay_seconds": 2}) as daemon:
        daemon.wait_for("published", resource_id="t")

        def keep_writing() -> bool:
            writer.execute("INSERT INTO t (a) VALUES ('x')")
            return len(daemon.all("published", resource_id="t")) >= 2

        eventually(keep_writing, timeout=20)


def test_new_truncated_reloaded_and_dropped_tables(dumper: Dumper, writer) -> None:
    with dumper.running(
        storage={"link_expiry_seconds": 1, "grace_seconds": 0}, look={"reconcile_interval_seconds": 1}
    ) as daemon:
        create_table(writer, "new", {"a": "text"})
        writer.execute("INSERT INTO new (a) VALUES ('x')")
        daemon.wait_for("published", resource_id="new", rows=1)
        with writer.transaction():
            writer.execute("TRUNCATE new RESTART IDENTITY")
            writer.execute("INSERT INTO new (a) SELECT 'y' FROM generate_series(1, 3)")
        daemon.wait_for("published", resource_id="new", rows=3)
        assert dumper.file("new") == expected(writer, "new")
        writer.execute("DROP TABLE new")
        daemon.wait_for("table_dropped", resource_id="new")
        eventually(lambda: not any(key.startswith("new/") for key in objects(dumper)), timeout=20)
        assert sum(key.startswith("t/") for key in objects(dumper)) == 2


def test_tables_from_before_and_without_event_triggers(dumper: Dumper) -> None:
    with dumper.database.connect("ckan_write") as writer:
        create_table(writer, "t", {"a": "text"})
        writer.execute("INSERT INTO t (a) VALUES ('old')")
        install(handle(dumper.database), ROLES)
        with dumper.database.connect() as admin:
            admin.execute("DROP EVENT TRIGGER datastore_dumper_ddl")
            admin.execute("DROP EVENT TRIGGER datastore_dumper_drop")
        with dumper.running(look={"reconcile_interval_seconds": 1}) as daemon:
            daemon.wait_for("published", resource_id="t", rows=1)
            create_table(writer, "new", {"a": "text"})
            writer.execute("INSERT INTO new (a) VALUES ('x')")
            daemon.wait_for("published", resource_id="new", rows=1)
            writer.execute("ALTER TABLE t ADD COLUMN b text")
            daemon.wait_for("published", 2, resource_id="t", rows=1)
            assert dumper.file("t").startswith(b"_id,a,b\r\n")
            writer.execute("ALTER TABLE t RENAME TO u")
            daemon.wait_for("published", resource_id="u", rows=1)
            writer.execute("DROP TABLE new")
            daemon.wait_for("table_dropped", resource_id="new")


def test_equal_bytes_keep_their_object(dumper: Dumper, writer) -> None:
    """As xloader's second pass, which rewrites every row's _full_text after the load."""
    writer.execute("INSERT INTO t (a) VALUES ('x')")
    with dumper.running() as daemon:
        daemon.wait_for("published", resource_id="t")
        before = objects(dumper)
        writer.execute("UPDATE t SET _full_text = to_tsvector(a)")
        assert not is_fresh(dumper)
        daemon.wait_for("unchanged", resource_id="t")
        assert is_fresh(dumper)
        assert objects(dumper) == before


def test_broken_connections_are_made_anew(dumper: Dumper, writer) -> None:
    with dumper.running() as daemon, dumper.database.connect() as admin:
        daemon.wait_for("published", resource_id="t")
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'datastore-dumper %%' "
            "AND datname = current_database()"
        )
        writer.execute("INSERT INTO t (a) VALUES ('x')")
        daemon.wait_for("published", resource_id="t", rows=1)
        daemon.wait_for("listening", 2)


def test_killed_in_the_middle_nothing_is_lost(dumper: Dumper, writer) -> None:
    with dumper.running() as daemon:
        daemon.wait_for("published", resource_id="t")
        writer.execute("INSERT INTO t (a) VALUES ('x')")
        daemon.kill()
    assert not is_fresh(dumper)
    with dumper.running() as daemon:
        daemon.wait_for("published", resource_id="t", rows=1)
        assert is_fresh(dumper)
        assert dumper.file("t") == expected(writer)


def test_sigterm_while_a_table_is_locked_leaves_nothing_half_done(dumper: Dumper, writer) -> None:
    with dumper.running(export={"lock_timeout_seconds": 10}) as daemon:
        daemon.wait_for("published", resource_id="t")
        before = objects(dumper)
        with dumper.database.connect("ckan_write") as other, other.transaction():
            writer.execute("INSERT INTO t (a) VALUES ('x')")
            other.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
            eventually(lambda: waits_for_lock(dumper), timeout=20)
            daemon.process.terminate()
        assert daemon.process.wait(30) == 0
    with dumper.database.connect() as admin:
        assert admin.execute(
            "SELECT count(*) FROM datastore_dumper.resource WHERE lease_owner IS NOT NULL"
        ).fetchone() == (0,)
    assert [path for path in dumper.directory.iterdir() if "spool" in path.name] == []
    if not is_fresh(dumper):
        assert objects(dumper) == before


def waits_for_lock(dumper: Dumper) -> bool:
    with dumper.database.connect() as admin:
        row = admin.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database() "
            "AND application_name = 'datastore-dumper segment'"
        ).fetchone()
        return bool(row and row[0])


def test_a_failing_table_does_not_hold_up_the_others(dumper: Dumper, writer) -> None:
    with dumper.database.connect() as admin:
        create_table(writer, "secret", {"a": "text"})
        with dumper.running() as daemon:
            daemon.wait_for("published", resource_id="secret")
            admin.execute("REVOKE SELECT ON secret FROM dumper")
            writer.execute("INSERT INTO secret (a) VALUES ('x')")
            daemon.wait_for("export_failed", resource_id="secret")
            writer.execute("INSERT INTO t (a) VALUES ('x')")
            daemon.wait_for("published", resource_id="t", rows=1)
            error, attempts = admin.execute(
                "SELECT last_error, attempts FROM datastore_dumper.resource WHERE resource_id = 'secret'"
            ).fetchone()
            assert "permission denied for table secret" in error
            assert attempts >= 1
            admin.execute("GRANT SELECT ON secret TO dumper")
            daemon.wait_for("published", resource_id="secret", rows=1)


def test_names_of_any_kind(dumper: Dumper, writer) -> None:
    names = [
        'quo"te',
        "quo'te",
        "per%cent %s",
        "sp ace",
        "日本🙂",
        "../up",
        "a/b",
        "a\\b",
        "x" * 63,
        ".",
        "..",
        "=",
        "-",
    ]
    for name in names:
        create_table(writer, name, {"a": "text", 'col "x" %s': "text"})
        writer.execute(psycopg.sql.SQL("INSERT INTO {} (a) VALUES ('x')").format(psycopg.sql.Identifier(name)))
    assert dumper.once() == 0
    for name in names:
        assert dumper.file(name) == b'_id,a,"col ""x"" %s"\r\n1,x,\n'
        assert is_fresh(dumper, name)
    root = Path(dumper.settings["storage"]["disk"]["directory"])
    assert all(root in path.resolve().parents for path in root.rglob("*.csv"))


def test_two_daemons_share_one_database(dumper: Dumper, writer, tmp_path: Path) -> None:
    for number in range(20):
        create_table(writer, f"t{number}", {"a": "text"})
    with dumper.running() as one, dumper.running() as other:
        for number in range(20):
            writer.execute(f"INSERT INTO t{number} (a) VALUES ('x')")
        eventually(lambda: all(is_fresh(dumper, f"t{number}") for number in range(20)), timeout=30)
        for number in range(20):
            assert dumper.file(f"t{number}") == b"_id,a\r\n1,x\n"
        assert one.all("export_crashed") == other.all("export_crashed") == []


def test_what_a_killed_process_was_writing_is_swept_after_a_day(dumper: Dumper, writer) -> None:
    root = Path(dumper.settings["storage"]["disk"]["directory"])
    old, new = (root / temporary_name(name) for name in ("old.csv", "new.csv"))
    for path in (old, new):
        path.write_bytes(b"half a fi")
    two_days_ago = time.time() - 2 * 24 * 3600
    os.utime(old, (two_days_ago, two_days_ago))
    with dumper.running() as daemon:
        daemon.wait_for("swept", removed=1)
        assert not old.exists()
        assert new.exists()
