"""`install` and `uninstall` for scripts, and on a server that is too old."""

from __future__ import annotations

import json

import pytest

from datastore_dumper import database as module
from datastore_dumper import install as installation
from datastore_dumper.errors import EXIT_CONFIG, EXIT_FAILURE
from datastore_dumper.install import InstallReport, Roles
from tests.cli.conftest import command
from tests.support.daemon import Dumper
from tests.support.datastore import create_table


def test_json(dumper: Dumper) -> None:
    path = dumper.write_config()
    superuser = ("--dsn", dumper.database.dsn, "--json")
    with dumper.database.connect("ckan_write") as writer:
        create_table(writer, "t", {"a": "text"})
        create_table(writer, "held", {"a": "text"})
        with writer.transaction():
            writer.execute("LOCK TABLE held IN ROW EXCLUSIVE MODE")
            done = command(path, "install", *superuser)
    assert (done.returncode, done.stderr) == (EXIT_FAILURE, "")
    report = json.loads(done.stdout)
    assert (report["notices"], report["tables"], report["attached"]) == ([], 2, 1)
    assert list(report["failed"]) == ["held"]
    done = command(path, "install", *superuser)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {
        "notices": [],
        "roles": {"daemon": "dumper", "ckan_write": "ckan_write", "ckan_read": "ckan_read"},
        "tables": 2,
        "attached": 1,
        "failed": {},
        "unreadable": {},
    }
    done = command(path, "uninstall", *superuser)
    assert (done.returncode, done.stderr) == (0, "")
    # The role of the functions is the cluster's, and other tests install at the same time.
    assert all("another database of this cluster" in notice for notice in json.loads(done.stdout)["notices"])
    done = command(path, "uninstall", *superuser)
    assert json.loads(done.stdout) == {"notices": ["datastore_dumper is not installed in this database"]}


def test_whoever_installs_need_not_read_the_daemons_secrets(dumper: Dumper) -> None:
    path = dumper.write_config(database={"dsn_file": "/nowhere"})
    roles = ["--daemon-role", "dumper", "--ckan-write-role", "ckan_write", "--ckan-read-role", "ckan_read"]
    superuser = ["--dsn", dumper.database.dsn]
    assert command(path, "install", *superuser, *roles).returncode == 0
    assert command(path, "uninstall", *superuser).returncode == 0


def test_roles_are_taken_from_the_environment_without_a_configuration(
    dumper: Dumper, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("daemon", "ckan_write", "ckan_read"):
        monkeypatch.setenv(f"DATASTORE_DUMPER_ROLES__{name.upper()}", dumper.settings["roles"][name])
    done = command(None, "install", "--dsn", dumper.database.dsn, "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["roles"] == dumper.settings["roles"]
    monkeypatch.setenv("DATASTORE_DUMPER_ROLES__DAEMON", "nobody")
    done = command(None, "install", "--dsn", dumper.database.dsn, "--json", "--daemon-role", "dumper")
    assert json.loads(done.stdout)["roles"] == dumper.settings["roles"], "an option has precedence"


def test_a_role_that_was_named_before_need_not_be_named_again(dumper: Dumper) -> None:
    with dumper.database.connect("ckan_write") as writer:
        create_table(writer, "t", {"a": "text"})
    superuser = ("install", "--dsn", dumper.database.dsn)
    done = command(None, *superuser, "--ckan-write-role", "ckan_write")
    assert done.returncode == 0
    assert "no role was named for the daemon" in done.stderr
    assert "no read role was named" in done.stderr
    done = command(None, *superuser, "--daemon-role", "dumper", "--ckan-read-role", "ckan_read")
    assert (done.returncode, done.stderr) == (0, "")
    done = command(None, *superuser)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_postgres_says_does_not_move_the_cursor(dumper: Dumper, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = "a\x1b[2Jb\nc"
    report = InstallReport((bad,), Roles("d", "w", "r"), 1, 0, {bad: bad}, {bad: f"{bad} password=hush"})
    monkeypatch.setattr(installation, "install", lambda *_, **__: report)
    monkeypatch.setattr(installation, "uninstall", lambda _: (bad,))
    for name, lines in (("install", 3), ("uninstall", 1)):
        done = command(dumper.write_config(), name)
        assert "\x1b" not in done.stderr
        assert "hush" not in done.stderr
        assert len(done.stderr.splitlines()) == lines


@pytest.mark.parametrize("name", ["install", "uninstall"])
def test_what_excludes_each_other(dumper: Dumper, name: str) -> None:
    done = command(dumper.write_config(), name, "--print", "--json")
    assert done.returncode == 2
    assert "exclude each other" in done.stderr


@pytest.mark.parametrize(
    "arguments", [("install",), ("run", "--once"), ("status",), ("verify",), ("gc",)], ids=" ".join
)
def test_a_release_of_postgres_that_is_too_old(
    dumper: Dumper, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "OLDEST_MAJOR", 99)
    done = command(dumper.write_config(), *arguments)
    assert (done.returncode, done.stdout) == (EXIT_CONFIG, "")
    assert "and 99 is the oldest that works" in done.stderr
    assert len(done.stderr.splitlines()) == 2
