"""The real daemon as a process: it hears, waits, exports, publishes, cleans up, and survives what happens to it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import psycopg
import pytest

from datastore_dumper.errors import ConfigError
from datastore_dumper.failpoints import VARIABLE
from datastore_dumper.install import install
from datastore_dumper.storage.disk_files import temporary_name
from tests.support.daemon import DaemonProcess, Dumper
from tests.support.datastore import create_table
from tests.support.installation import ROLES, handle
from tests.support.waiting import eventually


def expected(connection: psycopg.Connection, table: str = "t") -> bytes:
    """The file as it must be, by Postgres alone."""
    with connection.cursor().copy(f'COPY (SELECT _id, a FROM "{table}" ORDER BY _id) TO STDOUT csv') as copy:
        return b"_id,a\r\n" + b"".join(bytes(data) for data in copy)


def objects(dumper: Dumper) -> list[str]:
    return [stored.key for stored in dumper.storage.list()]


def test_a_change_becomes_a_file(dumper: Dumper, writer) -> None:
    with dumper.running() as daemon:
        daemon.wait_for("published", resource_id="t")
        writer.execute("INSERT INTO t (a) VALUES ('x'), (NULL), (''), ('quo\"te'), (E'new\\nline')")
        daemon.wait_for("published", resource_id="t", rows=5)
        assert dumper.is_fresh()
        assert dumper.file("t") == expected(writer)
        assert dumper.file("t", "csv-bom") == b"\xef\xbb\xbf" + expected(writer)


def test_a_burst_becomes_one_file(dumper: Dumper, writer) -> None:
    with dumper.running(debounce={"quiet_seconds": 5, "max_delay_seconds": 600}) as daemon:
        daemon.wait_for("published", resource_id="t")
        for number in range(100):
            writer.execute("INSERT INTO t (a) VALUES (%s)", [str(number)])
        assert not dumper.is_fresh()
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

        eventually(keep_writing)


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
        eventually(lambda: not any(key.startswith("new/") for key in objects(dumper)))
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
        with daemon.frozen():
            writer.execute("UPDATE t SET _full_text = to_tsvector(a)")
            assert not dumper.is_fresh()
        daemon.wait_for("unchanged", resource_id="t")
        assert dumper.is_fresh()
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


def test_a_second_sigterm_breaks_exports_off(dumper: Dumper, writer, tmp_path: Path) -> None:
    """It is not counted as a failure: the next daemon begins at once."""
    writer.execute("INSERT INTO t (a) VALUES ('x')")
    with DaemonProcess.start(dumper.write_config(), {VARIABLE: f"after_snapshot=pause:{tmp_path}"}) as daemon:
        eventually((tmp_path / "after_snapshot").exists)
        daemon.process.send_signal(signal.SIGTERM)
        daemon.wait_for("daemon_stopping")
        daemon.process.send_signal(signal.SIGTERM)
        daemon.wait_for("exports_broken_off", running=1)
        (tmp_path / "after_snapshot.release").touch()
        assert daemon.process.wait(90) == 0
        daemon.wait_for("export_abandoned", resource_id="t")
    assert not dumper.is_fresh()
    with dumper.database.connect() as admin:
        assert admin.execute(
            "SELECT attempts, lease_owner, last_error, retry_at <= now() FROM datastore_dumper.resource WHERE resource_id = 't'"
        ).fetchone() == (0, None, None, True)


def test_sigterm_while_a_table_is_locked_leaves_nothing_half_done(dumper: Dumper, writer) -> None:
    with dumper.running(export={"lock_timeout_seconds": 10}) as daemon:
        daemon.wait_for("published", resource_id="t")
        before = objects(dumper)
        with dumper.database.connect("ckan_write") as other, other.transaction():
            with daemon.frozen():
                writer.execute("INSERT INTO t (a) VALUES ('x')")
                other.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
            eventually(lambda: waits_for_lock(dumper))
            daemon.process.terminate()
        assert daemon.process.wait(90) == 0
    with dumper.database.connect() as admin:
        assert admin.execute(
            "SELECT count(*) FROM datastore_dumper.resource WHERE lease_owner IS NOT NULL"
        ).fetchone() == (0,)
    assert [path for path in dumper.directory.iterdir() if "spool" in path.name] == []
    if not dumper.is_fresh():
        assert objects(dumper) == before


def waits_for_lock(dumper: Dumper) -> bool:
    with dumper.database.connect() as admin:
        row = admin.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database() "
            "AND application_name = 'datastore-dumper segment'"
        ).fetchone()
        return bool(row and row[0])


def test_a_database_that_lacks_our_tables_for_a_while(dumper: Dumper, writer) -> None:
    """As one that is being restored. A daemon that ended with the exit code of a wrong setting would not be started again."""
    with dumper.running() as daemon, dumper.database.connect() as admin:
        daemon.wait_for("published", resource_id="t")
        admin.execute("ALTER SCHEMA datastore_dumper RENAME TO elsewhere")
        lost = daemon.wait_for("connection_lost", purpose="look")
        assert "does not have our tables" in lost["error"]
        admin.execute("ALTER SCHEMA elsewhere RENAME TO datastore_dumper")
        writer.execute("INSERT INTO t (a) VALUES ('x')")
        daemon.wait_for("published", resource_id="t", rows=1)
        assert dumper.is_fresh()


def test_a_read_role_that_is_not_there(dumper: Dumper, writer) -> None:
    """Its settings show in the bytes, so nothing is published under others."""
    with pytest.raises(ConfigError, match=r'there is no role "ckan_raed" \(roles.ckan_read\)'):
        dumper.once(roles={"ckan_read": "ckan_raed"})
    assert objects(dumper) == []


def test_settings_of_ckans_read_role_that_show_in_the_bytes(dumper: Dumper, writer) -> None:
    """The reconciler finds the files that were made under others."""
    create_table(writer, "times", {"at": "timestamptz"})
    writer.execute("INSERT INTO times (at) VALUES ('2026-01-01 00:00:00+00')")
    assert dumper.once() == 0
    assert b"2026-01-01 09:00:00+09" not in dumper.file("times")
    with dumper.database.connect() as admin:
        admin.execute(
            psycopg.sql.SQL("ALTER ROLE ckan_read IN DATABASE {} SET timezone = 'Asia/Tokyo'").format(
                psycopg.sql.Identifier(dumper.database.name)
            )
        )
    assert dumper.once() == 0
    assert b"1,2026-01-01 09:00:00+09" in dumper.file("times")
    with dumper.database.connect() as admin:
        made = admin.execute("SELECT resource_id, format, generated_at FROM datastore_dumper.dump_status").fetchall()
        assert dumper.once() == 0
        again = admin.execute("SELECT resource_id, format, generated_at FROM datastore_dumper.dump_status").fetchall()
    assert sorted(again) == sorted(made), "once is enough"


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
        assert dumper.is_fresh(name)
    root = Path(dumper.settings["storage"]["disk"]["directory"])
    assert all(root in path.resolve().parents for path in root.rglob("*.csv"))


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
