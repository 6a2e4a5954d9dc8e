"""Each check says ok where all is as it must be, and something else, with the way out, where one thing is not."""

from __future__ import annotations

import os
import re
import signal
import tempfile
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace

import pytest
from urllib3 import HTTPResponse

from datastore_dumper import checks
from datastore_dumper.checks.about import ABOUT
from datastore_dumper.checks.files import secrets
from datastore_dumper.checks.postgres import NEWEST_MAJOR, connections_of, release, skew
from datastore_dumper.checks.results import Result, Subject, exit_code, some, worst
from datastore_dumper.checks.storage import _date, _owners
from datastore_dumper.cli.options import database_of
from datastore_dumper.config import load
from datastore_dumper.config.storage import storage_settings
from datastore_dumper.errors import EXIT_CONFIG, EXIT_FAILURE, EXIT_NO_PERMISSION, EXIT_UNAVAILABLE
from datastore_dumper.sqlfiles import query, read_sql
from datastore_dumper.storage.settings import open_storage
from tests.checks.conftest import Portal, Results
from tests.support.daemon import Dumper
from tests.support.datastore import create_table
from tests.support.postgres import PostgresServer
from tests.support.standby import StandbyServer
from tests.support.waiting import eventually
from tests.support.watching import Watched

PACKAGE = Path(checks.__file__).parents[1]


def test_all_is_well(installed: Dumper, results: Results) -> None:
    installed.once()
    with installed.running():
        found = results()
    assert {result.status for result in found.values()} == {"ok"}, found
    assert set(found) >= {"database.connection", "schema.version", "tables.triggers", "storage.round_trip"}
    assert worst(found.values()) == "ok"
    assert exit_code(found.values()) == 0


def test_nothing_installed(dumper: Dumper, results: Results) -> None:
    found = results()
    assert found["schema.version"].status == "failed"
    assert "datastore-dumper install" in found["schema.version"].mend
    assert not any(name.startswith("tables.") for name in found), "what needs the schema was not tried"
    assert found["storage.round_trip"].status == "ok", "what does not need it was"
    assert exit_code(found.values()) == EXIT_CONFIG


def test_a_daemon_that_says_how_it_is(installed: Dumper, results: Results) -> None:
    watched = Watched.somewhere()
    assert results(monitor=watched.settings)["daemon.health"].status == "warning", "nobody answers"
    with installed.running(monitor=watched.settings) as daemon:
        eventually(lambda: watched.readiness()[1] == "ready")
        assert results(monitor=watched.settings)["daemon.health"] == Result(
            "daemon.health", "ok", "it says that all is well"
        )
        installed.write_config(debounce={"quiet_seconds": "soon"})
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for("config_refused")
        found = results(monitor=watched.settings)["daemon.health"]
        assert (found.status, "was refused" in found.found) == ("warning", True)
        parked = (installed.directory / "files").rename(installed.directory / "parked")
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for("storage_unverified", timeout_seconds=90)
        found = results(monitor=watched.settings)["daemon.health"]
        assert (found.status, found.exit_code) == ("failed", EXIT_UNAVAILABLE)
        assert "does not exist" in found.found
        parked.rename(installed.directory / "files")


def test_another_program_at_the_daemons_address(installed: Dumper, results: Results, portal: Portal) -> None:
    found = results(monitor={"listen": portal.url.removeprefix("http://")})["daemon.health"]
    assert (found.status, "no daemon of ours" in found.found) == ("warning", True)


BREAKAGES = [
    ("REVOKE SELECT ON t FROM dumper", "tables.readable", "failed", "t", EXIT_NO_PERMISSION),
    ("ALTER TABLE t DISABLE TRIGGER datastore_dumper_insert", "tables.triggers", "warning", "1 of 1", 0),
    (
        "ALTER TABLE t OWNER TO postgres",
        "tables.owners",
        "failed",
        "belong to postgres, whose",
        EXIT_NO_PERMISSION,
    ),
    ("ALTER TABLE t ENABLE ROW LEVEL SECURITY", "tables.readable", "warning", "no DataStore tables", 0),
    ("ALTER EVENT TRIGGER datastore_dumper_ddl DISABLE", "schema.event_triggers", "warning", "not both", 0),
    ("DROP EVENT TRIGGER datastore_dumper_ddl", "schema.event_triggers", "warning", "not both", 0),
    (
        "REVOKE EXECUTE ON FUNCTION datastore_dumper.lookup(text, text) FROM ckan_read",
        "schema.reader",
        "failed",
        "lookup(text, text)",
        EXIT_NO_PERMISSION,
    ),
    (
        "REVOKE USAGE ON SCHEMA datastore_dumper FROM ckan_read",
        "schema.reader",
        "failed",
        "USAGE ON SCHEMA datastore_dumper",
        EXIT_NO_PERMISSION,
    ),
    (
        "UPDATE datastore_dumper.change SET changed_at = now() - interval '1 day'",
        "daemon.backlog",
        "failed",
        "86400",
        EXIT_UNAVAILABLE,
    ),
    (
        "UPDATE datastore_dumper.resource SET attempts = 3, last_error = 'the reason'",
        "tables.failing",
        "warning",
        "the reason",
        0,
    ),
    ("DELETE FROM datastore_dumper.migration", "schema.version", "failed", "0001_tables.sql", EXIT_FAILURE),
    ("INSERT INTO datastore_dumper.migration VALUES ('9999_x.sql', '')", "schema.version", "failed", "9999_x", 1),
    (
        "UPDATE datastore_dumper.setting SET value = 'x' WHERE name = 'functions'",
        "schema.functions",
        "warning",
        "another",
        0,
    ),
    ("ALTER DATABASE {database} CONNECTION LIMIT 9", "database.connections", "warning", "15", 0),
    ("ALTER DATABASE {database} SET track_activities = off", "database.track_activities", "warning", "give way", 0),
    (
        "ALTER DATABASE {database} SET event_triggers = off",
        "database.event_triggers",
        "warning",
        "no event trigger fires",
        0,
    ),
]


@pytest.mark.parametrize(
    ("statement", "name", "status", "word", "code"), BREAKAGES, ids=[breakage[0][:40] for breakage in BREAKAGES]
)
def test_one_thing_amiss(
    installed: Dumper, results: Results, statement: str, name: str, status: str, word: str, code: int
) -> None:
    with installed.database.connect() as admin:
        if "event_triggers" in statement and admin.info.server_version < 170000:
            pytest.skip("the setting event_triggers came with Postgres 17")
        owner = admin.execute("SELECT current_user").fetchone()
        assert owner is not None
        text = statement.replace("postgres", owner[0]).format(database=installed.database.name)
        admin.execute(text.encode())
    found = results()[name]
    assert (found.status, found.exit_code) == (status, code), found
    assert word in found.found
    assert found.mend


def grants() -> list[tuple[str, str]]:
    """(what is granted to the daemon's role, the object), as sql/install/3_privileges.sql says it."""
    text = re.sub(r"'\s*\n\s*'", "", read_sql("install/3_privileges.sql"))
    found = []
    for privileges, objects in re.findall(r"'GRANT ([A-Z, ]+) ON (.+?) TO %I', daemon", text):
        if "%I" in objects or "TABLES" in objects:
            continue  # tables of CKAN
        kind = next((kind for kind in ("SCHEMA", "FUNCTION") if objects.startswith(kind)), "")
        for each in re.findall(r"datastore_dumper(?:\.\w+(?:\([^)]*\))?)?", objects):
            found += [(privilege, f"{kind} {each}".strip()) for privilege in privileges.split(", ")]
    return found


def test_every_privilege_that_install_grants_is_missed(installed: Dumper) -> None:
    """And so the list in check.sql is the one of the installation."""
    assert len(grants()) > 20
    with installed.database.connect() as admin, installed.database.connect("dumper") as daemon:
        assert daemon.execute(query("check_privileges")).fetchall() == []
        for privilege, on in grants():
            if on.startswith("SCHEMA"):
                continue  # without it nothing else can be asked: the next test
            admin.execute(f"REVOKE {privilege} ON {on} FROM dumper".encode())
            assert daemon.execute(query("check_privileges")).fetchall() == [(f"{privilege} ON {on}",)]
            admin.execute(f"GRANT {privilege} ON {on} TO dumper".encode())


@pytest.mark.parametrize(
    ("revoked", "name"),
    [
        ("USAGE ON SCHEMA datastore_dumper", "schema.version"),
        ("SELECT ON datastore_dumper.migration", "schema.version"),
        ("USAGE ON SCHEMA public", "schema.privileges"),
        ("DELETE ON datastore_dumper.change", "schema.privileges"),
    ],
)
def test_a_privilege_that_lacks(installed: Dumper, results: Results, revoked: str, name: str) -> None:
    with installed.database.connect() as admin:
        admin.execute(f"REVOKE {revoked} FROM dumper".encode())
    found = results()[name]
    assert (found.status, found.exit_code) == ("failed", EXIT_NO_PERMISSION), found
    assert "datastore-dumper install" in found.mend


def test_no_reader_named(installed: Dumper, results: Results) -> None:
    assert results(roles={"ckan_read": None})["schema.reader"].status == "warning"
    found = results(roles={"ckan_read": "nobody_we_know"})["schema.reader"]
    assert (found.status, found.exit_code) == ("failed", EXIT_CONFIG)
    assert "nobody_we_know" in found.found


def test_tables_that_are_left_to_ckan_are_named(installed: Dumper, results: Results) -> None:
    with installed.database.connect("ckan_write") as writer:
        create_table(writer, "odd", {"a": "text"})
        writer.execute("ALTER TABLE odd ENABLE ROW LEVEL SECURITY")
    found = results()["tables.left_to_ckan"]
    assert found.status == "ok"
    assert "odd" in found.found


def test_without_event_triggers_the_reconciler_is_named(installed: Dumper, results: Results) -> None:
    with installed.database.connect() as admin:
        admin.execute("DROP EVENT TRIGGER datastore_dumper_ddl")
        admin.execute("DROP EVENT TRIGGER datastore_dumper_drop")
    found = results()["schema.event_triggers"]
    assert (found.status, "60 s" in found.found) == ("ok", True)


def test_notifications_that_are_off(installed: Dumper, results: Results) -> None:
    with installed.database.connect() as admin:
        admin.execute(f"ALTER DATABASE {installed.database.name} SET datastore_dumper.notify = off".encode())
    assert "off" in results()["database.notify"].found


def test_connections_of_a_daemon_that_does_all_it_may(installed: Dumper) -> None:
    """The most that was seen is no more than what the check reckons with."""
    sections = {"export": {"concurrency": 2, "workers": 2, "segment_bytes": 65536}}
    with installed.database.connect("ckan_write") as writer:
        for number in range(2):
            create_table(writer, f"many{number}", {"a": "text"})
            writer.execute(f"INSERT INTO many{number} (a) SELECT repeat('x', 500) FROM generate_series(1, 60000)")
    with installed.running(**sections) as daemon, installed.database.connect() as admin:
        for number in range(2):
            daemon.wait_for("published", resource_id=f"many{number}", rows=60000)
        row = admin.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE usename = 'dumper' AND datname = current_database()"
        ).fetchone()
    assert row is not None
    assert 8 < row[0] <= connections_of(installed.config(**sections))


def test_unreachable_database(installed: Dumper, results: Results) -> None:
    found = results(database={"dsn": "postgresql://u:hunter2@127.0.0.1:1/x"})
    assert found["database.connection"].status == "failed"
    assert exit_code(found.values()) == EXIT_UNAVAILABLE
    assert found["storage.round_trip"].status == "ok"
    assert "schema.version" not in found


def test_an_encoding_that_is_not_ckans(dumper: Dumper, results: Results, postgres_server: PostgresServer) -> None:
    assert results()["database.encoding"].status == "ok"
    name = f"{dumper.database.name}_ascii"
    options = "TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'"
    with postgres_server.connect() as admin:
        admin.execute(f"CREATE DATABASE {name} {options}".encode())
    try:
        found = results(database={"dsn": postgres_server.dsn(name, "dumper")})["database.encoding"]
    finally:
        postgres_server.drop_database(name)
    assert found.status == "warning"
    assert "the encoding is SQL_ASCII" in found.found
    assert "ENCODING 'UTF8'" in found.mend


def test_somebody_elses_check_at_the_same_time(installed: Dumper, results: Results) -> None:
    over = threading.Event()

    def check_again_and_again() -> None:
        with installed.database.connect() as other:
            while not over.is_set():
                other.execute("NOTIFY datastore_dumper_check, 'of another check'")

    thread = threading.Thread(target=check_again_and_again)
    thread.start()
    try:
        assert results()["database.listen"].status == "ok"
    finally:
        over.set()
        thread.join()


def test_what_is_said_of_a_standby(
    results: Results, primary_server: PostgresServer, standby_server: StandbyServer
) -> None:
    standby = standby_server.dsn("postgres", "dumper")
    primary = primary_server.dsn("postgres", "dumper")
    both = {"dsn": primary, "replica_dsn": standby, "replica_wait_seconds": 30}
    found = results(database=both)
    assert (found["standby.connection"].status, found["standby.lag"].status) == ("ok", "ok")
    assert found["standby.feedback"].status == "warning"
    assert "hot_standby_feedback is off" in found["standby.feedback"].found
    with standby_server.connect() as admin:
        admin.execute("ALTER SYSTEM SET hot_standby_feedback = on")
        admin.execute("SELECT pg_reload_conf()")
    eventually(lambda: results(database=both)["standby.feedback"].status == "ok")
    connection = results(database={"replica_dsn": standby})["standby.connection"]
    assert (connection.status, connection.exit_code) == ("failed", EXIT_CONFIG)
    assert "another cluster" in connection.found


def test_a_replica_that_is_no_standby(installed: Dumper, results: Results) -> None:
    assert "standby.connection" not in results()
    found = results(database={"replica_dsn": installed.database.dsn_for("dumper")})["standby.connection"]
    assert (found.status, found.exit_code) == ("failed", EXIT_CONFIG)
    assert "leads to no standby" in found.found
    found = results(database={"replica_dsn": "postgresql://u:hunter2@127.0.0.1:1/x"})["standby.connection"]
    assert found.status == "warning"
    assert "cannot be reached" in found.found
    assert "database.replica_dsn" in found.mend
    assert "hunter2" not in found.found + found.mend


def test_disks_that_are_nearly_full(installed: Dumper, results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = SimpleNamespace(total=10 * 2**30, free=32 * 2**20)
    monkeypatch.setattr("datastore_dumper.checks.storage.shutil.disk_usage", lambda path: usage)
    found = results()
    assert {found[name].status for name in ("storage.room", "spool.directory")} == {"warning"}
    assert f"{installed.directory / 'files'} has 32.0 MiB of 10.0 GiB free" in found["storage.room"].found
    assert f"{installed.directory} has 32.0 MiB free" in found["spool.directory"].found
    assert "a place with 96.0 MiB or more" in found["spool.directory"].mend


def test_a_spool_that_cannot_be_made(installed: Dumper, results: Results, tmp_path: Path) -> None:
    found = results(export={"spool_directory": str(tmp_path / "missing")})["spool.directory"]
    assert (found.status, found.exit_code) == ("failed", EXIT_CONFIG)
    assert "export.spool_directory" in found.found


def test_secrets_that_others_can_read(installed: Dumper, results: Results, tmp_path: Path) -> None:
    assert results()["config.secrets"].status == "ok"
    dsn = tmp_path / "dsn"
    dsn.write_text(installed.settings["database"]["dsn"])
    installed.settings["database"] = {"dsn_file": str(dsn)}
    dsn.chmod(0o640)
    assert results()["config.secrets"].status == "ok"
    dsn.chmod(0o644)
    found = results()["config.secrets"]
    assert found.status == "warning"
    assert str(dsn) in found.mend


def test_a_connection_string_without_a_password_is_no_secret(
    installed: Dumper, results: Results, tmp_path: Path
) -> None:
    dsn = tmp_path / "dsn"
    dsn.write_text("host=127.0.0.1 port=1 user=u dbname=x")
    dsn.chmod(0o644)
    installed.settings["database"] = {"dsn_file": str(dsn)}
    assert results()["config.secrets"].status == "ok"
    dsn.write_text("host=127.0.0.1 port=1 user=u dbname=x password=secret")
    assert results()["config.secrets"].status == "warning"


def found_secrets(path: Path | None, **environ: str) -> Result:
    loaded = load(path, environ)
    subject = Subject(loaded, database_of(loaded.config), open_storage(storage_settings(loaded.config)))
    (found,) = secrets(subject)
    return found


def test_secrets_in_a_file_that_is_named_by_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("config.yaml")
    path.write_text("database: {dsn: 'postgresql://u:hush@h/d'}\nstorage: {type: disk, disk: {directory: /x}}\n")
    path.chmod(0o640)
    assert found_secrets(path).status == "ok"
    path.chmod(0o644)
    found = found_secrets(path)
    assert found.status == "warning"
    assert "chmod o-r config.yaml," in found.mend


def test_secrets_in_ckans_ini(tmp_path: Path) -> None:
    ini = tmp_path / "ckan.ini"
    ini.write_text(
        "[app:main]\nckan.datastore.write_url = postgresql://w:hush@h/d\n"
        f"ckanext.datastore_dumper.storage = disk\nckanext.datastore_dumper.disk.directory = {tmp_path}\n"
    )
    ini.chmod(0o644)
    found = found_secrets(None, DATASTORE_DUMPER_CKAN_INI=str(ini))
    assert found.status == "warning"
    assert f"chmod o-r {ini}," in found.mend
    by_variable = {"DATASTORE_DUMPER_CKAN_INI": str(ini), "CKAN_DATASTORE_WRITE_URL": "postgresql://w:hush@h/d"}
    assert found_secrets(None, **by_variable).status == "ok"
    ini.chmod(0o600)
    assert found_secrets(None, DATASTORE_DUMPER_CKAN_INI=str(ini)).status == "ok"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give directories away")
def test_directories_of_somebody_else(installed: Dumper, results: Results) -> None:
    installed.once()
    directory = installed.directory / "files"
    assert results()["storage.directories"].status == "ok"
    os.chown(next(directory.glob("t*")), 65534, 65534)
    found = results()["storage.directories"]
    assert (found.status, found.exit_code) == ("failed", EXIT_NO_PERMISSION)
    assert "1 directory do" in found.found
    assert f"chown -R root {directory}" in found.mend


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_directories_of_root_that_their_user_cannot_read() -> None:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        top = Path(name, "files")
        (top / "t" / "version").mkdir(parents=True)
        (top / "t").chmod(0o700)
        os.chown(top, 65534, 65534)
        os.seteuid(65534)
        try:
            found = _owners(top)
        finally:
            os.seteuid(0)
    assert found.status == "failed"
    assert "1 directory do" in found.found
    assert f"{top}/t" in found.found


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_directories_that_cannot_be_written_to(installed: Dumper, results: Results) -> None:
    installed.once()
    locked = next((installed.directory / "files").glob("t*"))
    locked.chmod(0o500)
    found = results()["storage.directories"]
    locked.chmod(0o700)
    assert (found.status, found.exit_code) == ("failed", EXIT_NO_PERMISSION)


@pytest.mark.parametrize(
    ("major", "status"), [(13, "failed"), (14, "ok"), (NEWEST_MAJOR, "ok"), (NEWEST_MAJOR + 1, "warning")]
)
def test_releases_of_postgres(major: int, status: str) -> None:
    found = release(major, f"{major}.1")
    assert found.status == status
    assert (found.exit_code == EXIT_CONFIG) == (status == "failed")


def test_a_role_that_is_not_the_daemons(installed: Dumper, results: Results) -> None:
    assert results()["database.role"].status == "ok"
    found = results(roles={"daemon": "somebody"})["database.role"]
    assert found.status == "warning"
    assert 'roles.daemon is "somebody", but database.dsn connects as "dumper"' in found.found


def test_the_daemon_that_is_there_is_seen(installed: Dumper, results: Results) -> None:
    assert results()["daemon.running"].status == "warning"
    with installed.running():
        assert eventually(lambda: results()["daemon.running"].status == "ok")


@pytest.mark.parametrize(
    ("status", "name", "expected", "word"),
    [
        ({"ckan_version": "2.11.6", "extensions": ["datastore_dumper"]}, "ckan.release", "failed", '"2.11"'),
        ({"ckan_version": "2.12.0a0", "extensions": ["datastore"]}, "ckan.plugin", "warning", "ckan.plugins"),
        ({"extensions": ["datastore_dumper"]}, "ckan.release", "warning", "ckan.hide_version"),
        ({"ckan_version": ["2.12"], "extensions": None}, "ckan.release", "warning", "ckan.hide_version"),
        (None, "ckan.release", "warning", "ckan.url"),
        ("hello", "ckan.release", "warning", "ckan.url"),
    ],
)
def test_what_ckan_says(
    installed: Dumper, results: Results, portal: Portal, status: object, name: str, expected: str, word: str
) -> None:
    portal.status = status
    found = results()[name]
    assert found.status == expected
    assert word in found.mend


@pytest.mark.parametrize("path", ["", "http://127.0.0.1:1", "/elsewhere"])
def test_a_ckan_that_is_not_there(installed: Dumper, results: Results, portal: Portal, path: str) -> None:
    url = None if not path else path if path.startswith("http") else portal.url + path
    found = results(ckan={"url": url})["ckan.release"]
    assert found.status == "warning"
    assert "ckan.url" in found.found + found.mend


def test_every_name_is_described() -> None:
    """The reference page has them all, and no others."""
    source = "".join(
        path.read_text(encoding="utf-8")
        for directory in ("checks", "cli")
        for path in (PACKAGE / directory).glob("*.py")
        if path.name != "about.py"
    )
    used = set(re.findall(r'\b(?:ok|warning|failed|of_error|skew|_refused|Result)\(\s*"([a-z_]+\.[a-z_]+)"', source))
    assert used == set(ABOUT)


NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("theirs", "seconds_read", "status", "word"),
    [
        (0, 0, "ok", "less than 1 s"),
        (5, 0, "ok", "less than 5 s"),
        (-5, 0, "ok", "less than 5 s"),
        (60, 0, "warning", "differ by 60 s"),
        (-60, 0, "warning", "differ by 60 s"),
        (60, 100, "ok", "less than 1 s"),
        (160, 100, "warning", "differ by 60 s"),
    ],
)
def test_skew(theirs: float, seconds_read: float, status: str, word: str) -> None:
    """A slow answer says nothing: only what lies outside of both readings of our clock is skew."""
    after = NOW + timedelta(seconds=seconds_read)
    found = skew("x", NOW + timedelta(seconds=theirs), NOW, after, "it")
    assert found.status == status
    assert word in found.found


@pytest.mark.parametrize(
    ("date", "status", "word"),
    [
        ("Thu, 01 Jan 2026 00:01:00 GMT", "ok", "the S3 service and this machine"),
        ("Thu, 01 Jan 2026 00:02:00 GMT", "warning", "differ by 120 s"),
        ("Wed, 31 Dec 2025 23:58:00 GMT", "warning", "differ by 120 s"),
        ("soon", "ok", "does not tell its time"),
        (None, "ok", "does not tell its time"),
    ],
)
def test_the_clock_of_an_s3_service(date: str | None, status: str, word: str) -> None:
    found = _date(HTTPResponse(headers={} if date is None else {"Date": date}), NOW, NOW)
    assert (found.name, found.status) == ("storage.clock", status)
    assert word in found.found


def test_some() -> None:
    assert some([]) == ""
    assert some(["a", "b", "c"]) == "a, b, c"
    assert some(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"


def test_the_first_that_failed_is_the_exit_code() -> None:
    results = [Result("a", "warning", "", "x"), Result("b", "failed", "", "x", 77), Result("c", "failed", "", "x", 69)]
    assert exit_code(results) == 77
    assert worst(results) == "failed"
    assert worst(results[:1]) == "warning"


def test_whose_the_storage_is(installed: Dumper, results: Results, tmp_path: Path) -> None:
    assert "nobody's" in results()["storage.owner"].found
    assert installed.once() == 0
    assert "this database's" in results()["storage.owner"].found
    (tmp_path / "other").mkdir()
    found = results(storage={"disk": {"directory": str(tmp_path / "other")}})["storage.owner"]
    assert found.status == "warning"
    assert "this database's files are in one that has" in found.found
    with installed.database.connect() as admin:
        admin.execute("UPDATE datastore_dumper.installation SET id = gen_random_uuid()")
    found = results()["storage.owner"]
    assert (found.status, found.exit_code) == ("failed", EXIT_CONFIG)
    assert "datastore-dumper adopt" in found.mend
