"""`datastore-dumper check` as a command: text, JSON, Nagios, exit codes, and never a secret."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from psycopg import conninfo

from datastore_dumper.checks.report import as_nagios
from datastore_dumper.checks.results import Result
from datastore_dumper.errors import EXIT_CONFIG, EXIT_NO_PERMISSION, EXIT_USAGE
from tests.support.daemon import Dumper

SECRET = "do-not-show-this-secret"


def check(config: Path, *options: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "datastore_dumper", "check", "-c", str(config), *options],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "Traceback" not in done.stderr
    assert SECRET not in done.stdout + done.stderr
    return done


def test_text(installed: Dumper) -> None:
    done = check(installed.write_config())
    assert done.returncode == 0, done.stdout
    assert done.stderr == ""
    assert "\x1b" not in done.stdout, "no colours in a file"
    lines = done.stdout.splitlines()
    assert any(line.split()[:2] == ["ok", "schema.privileges"] for line in lines)
    assert lines[-1].endswith("0 failed.")


@pytest.mark.parametrize("option", [(), ("--json",), ("--nagios",)])
def test_a_wrong_password(installed: Dumper, option: tuple[str, ...]) -> None:
    dsn = conninfo.make_conninfo(installed.database.dsn_for("dumper"), password=SECRET)
    done = check(installed.write_config(database={"dsn": dsn}), *option)
    assert done.returncode == (2 if "--nagios" in option else EXIT_NO_PERMISSION)
    assert "password authentication failed" in done.stdout
    if "--json" in option:
        report = json.loads(done.stdout)
        assert report["status"] == "failed"
        failed = [each for each in report["checks"] if each["status"] == "failed"]
        assert [each["name"] for each in failed] == ["database.connection"]
        assert set(failed[0]) == {"name", "status", "found", "mend"}
    if "--nagios" in option:
        assert done.stdout.startswith("DATASTORE DUMPER CRITICAL: database.connection: ")


@pytest.mark.parametrize("option", [(), ("--json",), ("--nagios",)])
def test_a_wrong_configuration(installed: Dumper, option: tuple[str, ...]) -> None:
    done = check(installed.write_config(lease={"ttl_seconds": "soon"}), *option)
    assert done.returncode == (2 if "--nagios" in option else EXIT_CONFIG)
    assert "lease.ttl_seconds" in (done.stdout if option else done.stderr)
    assert len((done.stdout + done.stderr).splitlines()) <= 3 or option == ("--json",)


def test_two_formats_at_once(installed: Dumper) -> None:
    assert check(installed.write_config(), "--json", "--nagios").returncode == EXIT_USAGE


def test_nagios_lines_are_lines() -> None:
    """A bar divides text from numbers, and a line break the first line from the others."""
    text = as_nagios([Result("a", "failed", "one | two\nthree", "mend | it", 1), Result("b", "ok", "fine")])
    first, *others = text.splitlines()
    assert first == "DATASTORE DUMPER CRITICAL: a: one / two three | ok=1 warnings=0 failed=1"
    assert others == ["failed: a: one / two three - mend / it"]
