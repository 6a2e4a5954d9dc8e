"""What an operator sees when something is wrong: one message that names the setting and the way out, an exit code, no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from psycopg import conninfo

from datastore_dumper.errors import EXIT_CONFIG, EXIT_FAILURE, EXIT_NO_PERMISSION, EXIT_UNAVAILABLE
from datastore_dumper.install import install
from tests.support.daemon import Dumper
from tests.support.datastore import create_table
from tests.support.installation import ROLES, handle

SECRET = "do-not-show-this-secret"


def run(config: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "datastore_dumper", *(command or ("run", "--once")), "-c", str(config)],
        capture_output=True,
        text=True,
        timeout=90,
    )


def assert_explained(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert SECRET not in done.stderr
    lines = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert 1 <= len(lines) <= 3, done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


@pytest.fixture
def installed(dumper: Dumper) -> Dumper:
    install(handle(dumper.database), ROLES)
    return dumper


def with_dsn(dumper: Dumper, **parameters: Any) -> dict[str, Any]:
    return {"dsn": conninfo.make_conninfo(dumper.database.dsn_for("dumper"), **parameters)}


def test_an_unknown_key(dumper: Dumper) -> None:
    done = run(dumper.write_config(debounce={"quite_seconds": 3}))
    assert_explained(done, EXIT_CONFIG, "debounce.quite_seconds", "quiet_seconds", "line")


def test_a_wrong_type(dumper: Dumper) -> None:
    assert_explained(
        run(dumper.write_config(debounce={"quiet_seconds": "soon"})), EXIT_CONFIG, "debounce.quiet_seconds"
    )


def test_no_dsn(dumper: Dumper) -> None:
    path = dumper.write_config()
    config = yaml.safe_load(path.read_text())
    del config["database"]
    path.write_text(yaml.safe_dump(config))
    assert_explained(run(path), EXIT_CONFIG, "database.dsn")


def test_a_dsn_that_is_none(dumper: Dumper) -> None:
    assert_explained(run(dumper.write_config(database={"dsn": f"password={SECRET} host"})), EXIT_CONFIG, "database.dsn")


def test_no_config_file(tmp_path: Path) -> None:
    assert_explained(run(tmp_path / "nowhere.yaml"), EXIT_CONFIG, "nowhere.yaml")


def test_postgres_does_not_answer(dumper: Dumper) -> None:
    path = dumper.write_config(database={"dsn": f"postgresql://u:{SECRET}@127.0.0.1:1/x"})
    assert_explained(run(path), EXIT_UNAVAILABLE, "Postgres cannot be reached", "database.dsn")


def test_no_such_database(dumper: Dumper) -> None:
    assert_explained(
        run(dumper.write_config(database=with_dsn(dumper, dbname="nope"))), EXIT_CONFIG, '"nope"', "database.dsn"
    )


def test_a_wrong_password(dumper: Dumper) -> None:
    done = run(dumper.write_config(database=with_dsn(dumper, password=SECRET)))
    assert_explained(done, EXIT_NO_PERMISSION, '"dumper"', "database.dsn")


def test_not_installed(dumper: Dumper) -> None:
    assert_explained(run(dumper.write_config()), EXIT_CONFIG, "datastore-dumper install")


def test_an_older_schema(installed: Dumper) -> None:
    with installed.database.connect() as admin:
        admin.execute("DELETE FROM datastore_dumper.migration")
    assert_explained(run(installed.write_config()), EXIT_FAILURE, "0001_tables.sql", "datastore-dumper install")


def test_no_rights(installed: Dumper) -> None:
    """A role that `install` was not told of."""
    done = run(installed.write_config(database={"dsn": installed.database.dsn_for("ckan_write")}))
    assert_explained(done, EXIT_NO_PERMISSION, "permission denied", "roles.daemon")


def test_no_right_to_install(dumper: Dumper) -> None:
    assert_explained(run(dumper.write_config(), "install"), EXIT_NO_PERMISSION, "permission denied")


def test_a_role_to_install_for_that_does_not_exist(dumper: Dumper) -> None:
    path = dumper.write_config(database={"dsn": dumper.database.dsn}, roles={"daemon": "nobody_we_know"})
    assert_explained(run(path, "install"), EXIT_CONFIG, 'role "nobody_we_know"', "daemon_role", "Create it first")


def test_a_directory_that_is_not_there(installed: Dumper, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    path = installed.write_config(storage={"disk": {"directory": str(missing)}})
    assert_explained(run(path), EXIT_CONFIG, "storage.disk.directory", str(missing))


def test_a_directory_that_cannot_be_written(installed: Dumper, tmp_path: Path) -> None:
    """A file's place, which not even root can write a directory into."""
    place = tmp_path / "file"
    place.write_text("")
    done = run(installed.write_config(storage={"disk": {"directory": str(place)}}))
    assert_explained(done, EXIT_CONFIG, "storage.disk.directory", str(place))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_without_the_right_to_write(installed: Dumper, tmp_path: Path) -> None:
    sealed = tmp_path / "sealed"
    sealed.mkdir(mode=0o500)
    done = run(installed.write_config(storage={"disk": {"directory": str(sealed)}}))
    assert_explained(done, EXIT_NO_PERMISSION, "storage.disk.directory", str(sealed))


def s3_settings(s3_server: Any, bucket: str, **changes: Any) -> dict[str, Any]:
    return {
        "type": "s3",
        "s3": {
            "endpoint": s3_server.endpoint,
            "secure": False,
            "bucket": bucket,
            "access_key": s3_server.access_key,
            "secret_key": s3_server.secret_key,
            **changes,
        },
    }


def test_a_bucket_that_is_not_there(installed: Dumper, s3_server: Any) -> None:
    done = run(installed.write_config(storage=s3_settings(s3_server, "no-such-bucket")))
    assert_explained(done, EXIT_CONFIG, "storage.s3.bucket", "no-such-bucket")


def test_a_wrong_secret(installed: Dumper, s3_server: Any, s3_bucket: str) -> None:
    done = run(installed.write_config(storage=s3_settings(s3_server, s3_bucket, secret_key=SECRET)))
    assert_explained(done, EXIT_NO_PERMISSION, "storage.s3.secret_key")


def test_storage_that_does_not_answer(installed: Dumper, s3_server: Any, s3_bucket: str) -> None:
    done = run(installed.write_config(storage=s3_settings(s3_server, s3_bucket, endpoint="127.0.0.1:1")))
    assert_explained(done, EXIT_UNAVAILABLE, "storage.s3.endpoint")


def test_a_table_that_cannot_be_read_fails_the_run_and_is_named(installed: Dumper) -> None:
    with installed.database.connect("ckan_write") as writer:
        create_table(writer, "secret", {"a": "text"})
    with installed.database.connect() as admin:
        admin.execute("SELECT datastore_dumper.attach('secret'::regclass)")
        admin.execute("REVOKE SELECT ON secret FROM dumper")
    done = run(installed.write_config())
    assert done.returncode == EXIT_FAILURE, done.stderr
    assert "Traceback" not in done.stderr
    (failed,) = (line for line in done.stderr.splitlines() if "export_failed" in line)
    assert "permission denied for table secret" in failed


def test_a_table_of_somebody_else_gets_no_triggers_and_is_named(installed: Dumper) -> None:
    with installed.database.connect() as admin:
        admin.execute("CREATE TABLE foreign_table (_id serial PRIMARY KEY)")
    done = run(installed.write_config())
    assert "Traceback" not in done.stderr
    assert [line for line in done.stderr.splitlines() if "triggers_missing" in line and "foreign_table" in line], (
        done.stderr
    )
