"""Installing, upgrading, uninstalling: idempotent, least privilege, and nothing left behind."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

import psycopg
import pytest
from psycopg import sql

from datastore_dumper.errors import ConfigError, DumperError, PermissionDeniedError, UnavailableError
from datastore_dumper.export import hold_snapshot
from datastore_dumper.install import (
    Roles,
    install,
    install_script,
    migrations,
    printed_script,
    printed_uninstall_script,
    require_installed,
    uninstall,
)
from tests.support.catalog import describe
from tests.support.daemon import Dumper
from tests.support.datastore import create_table
from tests.support.installation import ROLES, handle
from tests.support.postgres import ScratchDatabase
from tests.support.waiting import eventually

ODD_NAMES = [
    "plain",
    'quo"te',
    "quo'te",
    "per%cent %s %(x)s",
    "sp ace",
    "Ünïcödé 日本 🙂",
    "semi;colon--",
    "back\\slash",
    "$dollar$",
    "x" * 63,
    "{brace}",
]


def described(database: ScratchDatabase) -> dict[str, list[str]]:
    with database.connect() as admin:
        return describe(admin)


def test_twice_is_once(database: ScratchDatabase) -> None:
    install(handle(database), ROLES)
    once = described(database)
    report = install(handle(database), ROLES)
    assert described(database) == once
    assert report.attached == 0
    assert report.failed == {}


def test_uninstall_leaves_the_database_as_it_was(database: ScratchDatabase) -> None:
    with database.connect() as admin, suppress(psycopg.errors.DependentObjectsStillExist):
        # Left by tests whose databases are gone; where another database uses it, uninstalling must keep it.
        admin.execute("DROP ROLE IF EXISTS datastore_dumper_owner")
    with database.connect("ckan_write") as writer:
        for name in ODD_NAMES:
            create_table(writer, name, {"a": "text"})
    before = described(database)
    report = install(handle(database), ROLES)
    assert report.attached == len(ODD_NAMES)
    assert described(database) != before
    uninstall(handle(database))
    assert described(database) == before
    assert uninstall(handle(database)) == ("datastore_dumper is not installed in this database",)


def test_a_daemon_that_is_the_write_role_keeps_its_rights(database: ScratchDatabase) -> None:
    with database.connect("ckan_write") as writer:
        create_table(writer, "t", {"a": "text"})
        before = described(database)
        install(handle(database), Roles(daemon="ckan_write", ckan_write="ckan_write", ckan_read="ckan_read"))
        uninstall(handle(database))
        assert described(database) == before
        assert writer.execute("SELECT count(*) FROM t").fetchone() == (0,)


@pytest.mark.parametrize("first", [None, *migrations()])
def test_every_upgrade_ends_like_a_fresh_install(
    database: ScratchDatabase, other_database: ScratchDatabase, first
) -> None:
    with database.connect() as admin:
        admin.execute(install_script(ROLES, up_to=first or "").encode()) if first else None
    install(handle(database), ROLES)
    install(handle(other_database), ROLES)
    assert described(database) == described(other_database)
    with database.connect() as admin:
        require_installed(admin)


def test_an_altered_migration_is_refused(database: ScratchDatabase) -> None:
    install(handle(database), ROLES)
    with database.connect() as admin:
        admin.execute("UPDATE datastore_dumper.migration SET sha256 = 'other'")
    with pytest.raises(DumperError, match="was altered after it had been applied"):
        install(handle(database), ROLES)


def test_a_newer_schema_is_refused(database: ScratchDatabase) -> None:
    install(handle(database), ROLES)
    with database.connect() as admin:
        admin.execute("INSERT INTO datastore_dumper.migration VALUES ('9999_from_the_future.sql', 'x')")
        with pytest.raises(DumperError, match="9999_from_the_future"):
            require_installed(admin)
    with pytest.raises(DumperError, match="newer release"):
        install(handle(database), ROLES)


def test_what_is_missing_is_named(database: ScratchDatabase) -> None:
    with database.connect() as admin, pytest.raises(ConfigError) as caught:
        require_installed(admin)
    assert "datastore-dumper install" in caught.value.hint


def test_a_role_that_does_not_exist_is_named(database: ScratchDatabase) -> None:
    with pytest.raises(DumperError, match='role "no such role" \\(daemon_role\\) does not exist'):
        install(handle(database), Roles(daemon="no such role"))
    with database.connect() as admin:
        assert admin.execute("SELECT FROM pg_namespace WHERE nspname = 'datastore_dumper'").fetchone() is None


def test_a_superuser_names_whose_rights_are_enough(database: ScratchDatabase) -> None:
    """No function of ours is to run as a superuser."""
    with pytest.raises(DumperError, match="a superuser must name CKAN's write role") as caught:
        install(handle(database), Roles(daemon=ROLES.daemon, ckan_read=ROLES.ckan_read))
    assert "--ckan-write-role" in caught.value.hint
    with database.connect() as admin:
        assert admin.execute("SELECT FROM pg_namespace WHERE nspname = 'datastore_dumper'").fetchone() is None


def test_functions_that_run_as_a_superuser_are_noted(database: ScratchDatabase) -> None:
    """An early release let that happen."""
    with database.connect() as admin:
        admin.execute("CREATE SCHEMA datastore_dumper")
    (notice,) = install(handle(database), ROLES).notices
    assert "run with all rights of superuser" in notice


def test_without_superuser_there_are_no_event_triggers_and_all_else_works(database: ScratchDatabase) -> None:
    """As CKAN's write role, the owner of the tables: what a managed service offers."""
    with database.connect() as admin:
        admin.execute(sql.SQL("GRANT CREATE ON DATABASE {} TO ckan_write").format(sql.Identifier(database.name)))
    with database.connect("ckan_write") as writer:
        create_table(writer, "t", {"a": "text"})
    report = install(handle(database, "ckan_write"), ROLES)
    assert any("may not create event triggers" in notice for notice in report.notices)
    assert any("GRANT USAGE ON SCHEMA public TO dumper" in notice for notice in report.notices)
    with database.connect() as admin:
        admin.execute("GRANT USAGE ON SCHEMA public TO dumper")
    assert (report.attached, report.failed) == (1, {})
    with database.connect("dumper") as daemon:
        require_installed(daemon)
        assert daemon.execute("SELECT count(*) FROM t").fetchone() == (0,)
    uninstall(handle(database, "ckan_write"))
    with database.connect() as admin:
        assert admin.execute("SELECT FROM pg_trigger WHERE tgname LIKE 'datastore%'").fetchone() is None


def test_a_role_without_rights_is_told_so(database: ScratchDatabase) -> None:
    with pytest.raises(PermissionDeniedError):
        install(handle(database, "dumper"), ROLES)


def test_no_function_of_ours_runs_as_a_superuser(database: ScratchDatabase) -> None:
    install(handle(database), ROLES)
    with database.connect() as admin:
        owners = admin.execute(
            "SELECT DISTINCT r.rolname, r.rolsuper, r.rolcanlogin FROM pg_proc p JOIN pg_roles r ON r.oid = p.proowner "
            "WHERE p.pronamespace = 'datastore_dumper'::regnamespace"
        ).fetchall()
        assert owners == [("datastore_dumper_owner", False, False)]
        unsafe = admin.execute(
            "SELECT proname FROM pg_proc WHERE pronamespace = 'datastore_dumper'::regnamespace "
            "AND (NOT prosecdef OR NOT 'search_path=pg_catalog, pg_temp' = ANY (proconfig))"
        ).fetchall()
        assert unsafe == []


def test_the_daemon_may_do_its_work_and_no_more(database: ScratchDatabase) -> None:
    with database.connect("ckan_write") as writer:
        create_table(writer, "t", {"a": "text"})
        writer.execute("CREATE TABLE _private (_id int NOT NULL)")
    with database.connect() as admin:
        admin.execute("CREATE SCHEMA elsewhere AUTHORIZATION ckan_write")
        admin.execute("CREATE TABLE elsewhere.secret (_id int NOT NULL)")
        admin.execute("ALTER TABLE elsewhere.secret OWNER TO ckan_write")
        admin.execute("CREATE TABLE others (_id int NOT NULL)")
    install(handle(database), ROLES)
    with database.connect("dumper") as daemon, database.connect() as admin:
        for forbidden in (
            "INSERT INTO t (a) VALUES ('x')",
            "UPDATE t SET a = 'x'",
            "DELETE FROM t",
            "TRUNCATE t",
            "DROP TABLE t",
            "ALTER TABLE t DISABLE TRIGGER ALL",
            "CREATE INDEX ON t (a)",
            "COMMENT ON TABLE t IS 'x'",
            "DO $$ BEGIN LOCK TABLE t IN SHARE ROW EXCLUSIVE MODE; END $$",
            "SELECT nextval('t__id_seq')",
            "CREATE TABLE public.x (a int)",
            "CREATE FUNCTION public.x() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "CREATE OPERATOR public.= (LEFTARG = oid, RIGHTARG = int, FUNCTION = int4eq)",
            "CREATE SCHEMA x",
            "CREATE ROLE x",
            "SELECT * FROM elsewhere.secret",
            "SELECT * FROM _private",
            "SELECT * FROM others",
            "SELECT pg_read_file('postgresql.conf')",
            "COPY datastore_dumper.setting TO PROGRAM 'cat'",
            "CREATE TABLE datastore_dumper.x (a int)",
            "ALTER FUNCTION datastore_dumper.attach(oid) SECURITY INVOKER",
            "DROP SCHEMA datastore_dumper CASCADE",
            "SELECT datastore_dumper.detach('t'::regclass)",
            "SELECT datastore_dumper.ring()",
            "CREATE TRIGGER x AFTER INSERT ON t EXECUTE FUNCTION datastore_dumper.on_truncate()",
            "INSERT INTO datastore_dumper.change VALUES ('t'::regclass, '1', 1)",
            "UPDATE datastore_dumper.change SET bucket = 1",
            "INSERT INTO datastore_dumper.resource VALUES ('t'::regclass, 't')",
            "UPDATE datastore_dumper.doorbell SET rang_at = 'infinity'",
            "UPDATE datastore_dumper.migration SET sha256 = ''",
            "UPDATE datastore_dumper.setting SET value = 'postgres'",
            "SET ROLE ckan_write",
            "SET ROLE ckan_read",
            "SET ROLE datastore_dumper_owner",
            "SET SESSION AUTHORIZATION ckan_write",
            "SET session_replication_role = replica",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                daemon.execute(forbidden)
        # It may ask for triggers on DataStore tables alone, and then only on those of CKAN's write role.
        for table in ("elsewhere.secret", "_private", "datastore_dumper.change"):
            (relid,) = admin.execute("SELECT %s::regclass::oid", [table]).fetchone()
            with pytest.raises(psycopg.errors.UndefinedTable, match="is not a DataStore table"):
                daemon.execute("SELECT datastore_dumper.attach(%s)", [relid])
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            daemon.execute("SELECT datastore_dumper.attach('others'::regclass)")
    with database.connect() as admin:
        owned = admin.execute(
            "SELECT classid::regclass::text, objid FROM pg_shdepend WHERE refobjid = 'dumper'::regrole AND deptype = 'o' "
            "AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())"
        ).fetchall()
        assert owned == []
        assert (
            admin.execute("SELECT roleid::regrole FROM pg_auth_members WHERE member = 'dumper'::regrole").fetchall()
            == []
        )


def test_ckans_reader_may_look_up_and_no_more(database: ScratchDatabase) -> None:
    install(handle(database), ROLES)
    with database.connect("ckan_read") as reader:
        assert reader.execute("SELECT * FROM datastore_dumper.lookup('t', 'csv')").fetchall() == []
        for forbidden in (
            "SELECT * FROM datastore_dumper.dump_status",
            "SELECT * FROM datastore_dumper.change",
            "SELECT datastore_dumper.attach(1)",
            "SELECT datastore_dumper.ring()",
            "SELECT datastore_dumper.signature(1)",
            "SELECT datastore_dumper.sound_triggers(1)",
            "SELECT datastore_dumper.record_change(1, '{1}')",
            "SELECT * FROM datastore_dumper.setting",
            "SELECT * FROM datastore_dumper.datastore_table",
            "SELECT * FROM datastore_dumper.garbage",
            "CREATE TABLE datastore_dumper.x (a int)",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                reader.execute(forbidden)


def test_the_script_locks_no_table_that_has_no_triggers_yet(database: ScratchDatabase) -> None:
    """The server has room for some thousands of locks, and a portal may have more tables."""
    with database.connect("ckan_write") as writer, database.connect() as admin:
        create_table(writer, "t", {"a": "text"})
        admin.execute(install_script(ROLES).removesuffix("COMMIT;\n").encode())
        assert admin.execute("SELECT FROM pg_locks WHERE relation = 'public.t'::regclass").fetchone() is None
        admin.execute("ROLLBACK")
    install(handle(database), ROLES)
    with database.connect("dumper") as daemon:
        assert daemon.execute("SELECT count(*) FROM t").fetchone() == (0,)


@pytest.mark.parametrize("printed", [False, True])
def test_another_role_for_the_daemon_may_read_all_tables(
    database: ScratchDatabase, psql: str, *, printed: bool
) -> None:
    """Table by table, as the triggers come: one transaction that grants it on all would lock them all."""
    names = [name for name in ODD_NAMES if not name.startswith("_")]
    with database.connect("ckan_write") as writer, database.connect() as admin:
        for name in names:
            create_table(writer, name, {"a": "text"})
        install(handle(database), ROLES)
        changes = admin.execute("SELECT count(*) FROM datastore_dumper.change").fetchone()
        database.server.create_roles("other_dumper")
        others = replace(ROLES, daemon="other_dumper")
        admin.execute(install_script(others).removesuffix("COMMIT;\n").encode())
        assert admin.execute(
            "SELECT count(*) FROM pg_locks WHERE relation IN (SELECT relid FROM datastore_dumper.datastore_table)"
        ).fetchone() == (0,)
        admin.execute("ROLLBACK")
        if printed:
            subprocess.run(
                [psql, "-X", "-q", "-d", database.dsn], input=printed_script(others), text=True, check=True, timeout=90
            )
        else:
            assert install(handle(database), others).failed == {}
        with database.connect("other_dumper") as daemon:
            for name in names:
                daemon.execute(sql.SQL("SELECT FROM public.{}").format(sql.Identifier(name)))
        assert admin.execute("SELECT count(*) FROM datastore_dumper.change").fetchone() == changes, (
            "nothing is made anew"
        )


def test_another_role_for_the_daemon_while_a_table_is_busy(database: ScratchDatabase) -> None:
    with database.connect("ckan_write") as writer:
        create_table(writer, "busy", {"a": "text"})
        create_table(writer, "free", {"a": "text"})
        install(handle(database), ROLES)
        database.server.create_roles("other_dumper")
        others = replace(ROLES, daemon="other_dumper")
        with writer.transaction():
            writer.execute("TRUNCATE busy")
            report = install(handle(database), others)
    assert report.failed == {}
    assert list(report.unreadable) == ["busy"]
    assert "lock timeout" in report.unreadable["busy"]
    assert install(handle(database), others).unreadable == {}


def test_a_table_without_triggers_is_not_granted(database: ScratchDatabase) -> None:
    """Uninstalling finds by the triggers what was granted."""
    with database.connect("ckan_write") as writer, database.connect() as admin:
        create_table(writer, "busy", {"a": "text"})
        with writer.transaction():
            writer.execute("INSERT INTO busy (a) VALUES ('x')")
            assert "busy" in install(handle(database), ROLES).failed
        assert admin.execute("SELECT has_table_privilege('dumper', 'busy', 'SELECT')").fetchone() == (False,)


def test_a_table_that_is_busy_is_reported_not_waited_for(database: ScratchDatabase) -> None:
    with database.connect("ckan_write") as writer:
        create_table(writer, "busy", {"a": "text"})
        create_table(writer, "free", {"a": "text"})
        with writer.transaction():
            writer.execute("INSERT INTO busy (a) VALUES ('x')")
            report = install(handle(database), ROLES)
    assert report.attached == 1
    assert "lock timeout" in report.failed["busy"]
    assert install(handle(database), ROLES).attached == 1


def test_nobody_waits_long_behind_whoever_gives_a_busy_table_its_triggers(
    database: ScratchDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writers queue behind the lock that waits for another writer; theirs fail after a second. The table is tried again, and
    has its triggers as soon as it is free for a moment."""
    with (
        database.connect("ckan_write") as first,
        database.connect("ckan_write") as second,
        database.connect() as admin,
        ThreadPoolExecutor(1) as thread,
    ):
        monkeypatch.setattr("datastore_dumper.install._ATTACH_ROUNDS", 50)
        create_table(first, "busy", {"a": "text"})
        second.execute("SET lock_timeout = '1s'")
        first.execute("BEGIN")
        first.execute("INSERT INTO busy (a) VALUES ('x')")
        installing = thread.submit(install, handle(database), ROLES)
        queued = 0
        while queued < 2:
            eventually(
                lambda: (
                    admin.execute(
                        "SELECT FROM pg_locks WHERE relation = 'busy'::regclass AND mode = 'ShareRowExclusiveLock'"
                    ).fetchone()
                    is not None
                )
            )
            second.execute("INSERT INTO busy (a) VALUES ('y')")
            queued += 1
        first.execute("COMMIT")
        report = installing.result()
        assert (report.attached, report.failed) == (1, {})
        assert admin.execute("SELECT count(*) FROM busy").fetchone() == (3,)


def test_new_tables_get_their_triggers_in_the_creating_transaction(database: ScratchDatabase) -> None:
    install(handle(database), ROLES)
    with database.connect("ckan_write") as writer, writer.transaction():
        create_table(writer, "new", {"a": "text"})
        assert writer.execute(
            "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'new'::regclass AND tgname LIKE 'datastore%' AND tgenabled = 'A'"
        ).fetchone() == (4,)
        writer.execute("CREATE TABLE no_id (a text)")
        writer.execute("CREATE TABLE _hidden (_id int)")
        writer.execute("CREATE TABLE copied AS SELECT 1 AS _id")
        writer.execute("ALTER TABLE copied ALTER _id SET NOT NULL")
    with database.connect("dumper") as daemon:
        assert sorted(r for (r,) in daemon.execute("SELECT resource_id FROM datastore_dumper.resource")) == [
            "copied",
            "new",
        ]
        assert daemon.execute("SELECT count(*) FROM new").fetchone() == (0,)


def test_printed_for_psql(database: ScratchDatabase, other_database: ScratchDatabase, psql: str) -> None:
    """`install --print | psql` ends where `install` ends, and `uninstall --print` where it began."""
    with database.connect("ckan_write") as writer:
        create_table(writer, 'we"ird %s', {"a": "text"})
    before = described(database)

    def run(script: str) -> None:
        done = subprocess.run(
            [psql, "-X", "-q", "-d", database.dsn], input=script, text=True, capture_output=True, timeout=90
        )
        assert done.returncode == 0, done.stderr
        assert "ERROR" not in done.stderr

    run(printed_script(ROLES))
    run(printed_script(ROLES))
    with other_database.connect("ckan_write") as writer:
        create_table(writer, 'we"ird %s', {"a": "text"})
    install(handle(other_database), ROLES)
    assert described(database) == described(other_database)
    run(printed_uninstall_script())
    assert described(database) == before


@pytest.mark.parametrize("action", [lambda database: install(database, ROLES), uninstall])
def test_an_export_under_way_is_not_waited_for(database: ScratchDatabase, action) -> None:
    """Whoever waits for an exclusive lock makes everybody else wait behind him: downloads, and new tables."""
    install(handle(database), ROLES)
    with database.connect("ckan_write") as writer, handle(database, "dumper").connect("holder") as holder:
        create_table(writer, "t", {"a": "text"})
        relid = writer.execute("SELECT 't'::regclass::oid::int").fetchone()[0]
        with hold_snapshot(holder, relid), pytest.raises(UnavailableError, match="Stop the daemon"):
            action(handle(database))
    action(handle(database))


@pytest.mark.parametrize(
    "setting",
    [
        "standard_conforming_strings = off",
        "default_transaction_read_only = on",
        "default_transaction_isolation = serializable",
        "quote_all_identifiers = on",
        "datestyle = 'SQL, DMY'",
    ],
)
def test_whatever_a_role_is_set_to(database: ScratchDatabase, dumper: Dumper, setting: str) -> None:
    """Of the daemon's role, and of the one that installs."""
    with database.connect() as admin:
        admin.execute(f'ALTER DATABASE "{database.name}" SET {setting}')
    install(handle(database), ROLES)
    with database.connect("ckan_write") as writer:
        writer.execute("SET default_transaction_read_only = off")
        create_table(writer, "t", {"a": "text"})
        writer.execute("INSERT INTO t (a) VALUES ('x')")
        assert dumper.once() == 0
    assert dumper.file("t") == b"_id,a\r\n1,x\n"
    with handle(database, "dumper").connect("test") as daemon:
        assert daemon.execute("SHOW transaction_isolation").fetchone() == ("read committed",)
