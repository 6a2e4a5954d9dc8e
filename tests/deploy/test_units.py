"""What deploy/ has for systemd: systemd's own tools have no complaint, and the two units say the same."""

from __future__ import annotations

import difflib
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from datastore_dumper.config import Config
from datastore_dumper.errors import EXIT_CONFIG
from datastore_dumper.monitor.health import STUCK_SECONDS

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
UNITS = ("datastore-dumper.service", "datastore-dumper@.service")
MOST_EXPOSED = 20  # of 100


def tool(name: str) -> str:
    """A program of systemd's. Continuous integration installs it (.ci/run)."""
    found = shutil.which(name)
    if found is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"there is no {name}: install systemd")
    return found


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=90)


def settings(unit: str) -> dict[str, list[str]]:
    """All values of each key of the unit, in order."""
    found: dict[str, list[str]] = {}
    for line in (DEPLOY / unit).read_text(encoding="utf-8").splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


@pytest.fixture(params=UNITS)
def installed(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The unit, started from where the program is here."""
    text = (DEPLOY / request.param).read_text(encoding="utf-8")
    program = Path(sys.executable).with_name("datastore-dumper")
    unit = tmp_path / request.param.replace("@", "@north")
    unit.write_text(text.replace("/opt/datastore-dumper/bin/datastore-dumper", str(program)), encoding="utf-8")
    return unit


def test_systemd_understands_every_line(installed: Path) -> None:
    done = run(tool("systemd-analyze"), "verify", "--man=no", str(installed))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_a_wrong_line_would_be_noticed(installed: Path) -> None:
    installed.write_text(installed.read_text(encoding="utf-8").replace("ProtectHome=", "ProtectHme="), encoding="utf-8")
    done = run(tool("systemd-analyze"), "verify", "--man=no", str(installed))
    assert "ProtectHme" in done.stderr


def test_the_daemon_is_locked_up(installed: Path) -> None:
    command = tool("systemd-analyze"), "security", "--offline=yes", f"--threshold={MOST_EXPOSED}", str(installed)
    done = run(*command)
    assert done.returncode == 0, done.stdout + done.stderr
    installed.write_text(re.sub(r"^(Protect|Restrict|Private).*", "", installed.read_text("utf-8"), flags=re.MULTILINE))
    assert run(*command).returncode != 0, "or else the threshold says nothing"


def test_both_units_say_the_same() -> None:
    one, several = ((DEPLOY / unit).read_text(encoding="utf-8").splitlines() for unit in UNITS)
    assert difflib.SequenceMatcher(a=one, b=several).ratio() > 0.8
    first, second = map(settings, UNITS)
    assert first.keys() == second.keys()
    of_the_instance = {key for key in first if first[key] != second[key]}
    assert of_the_instance == {"Description", "ExecStart", "ExecReload", "StateDirectory", "CacheDirectory"}
    assert all("%i" in " ".join(second[key]) for key in of_the_instance)
    assert [line.replace("%i.", "") for line in several if "LoadCredential" in line] == [
        line for line in one if "LoadCredential" in line
    ]


def test_times_and_codes_fit_the_program() -> None:
    unit = settings(UNITS[0])
    assert unit["RestartPreventExitStatus"] == [str(EXIT_CONFIG)]
    assert int(unit["WatchdogSec"][0]) > STUCK_SECONDS, "/livez knows first"
    assert int(unit["TimeoutStopSec"][0]) > Config.model_fields["shutdown_timeout_seconds"].default
    assert (unit["Type"], unit["NotifyAccess"]) == (["notify"], ["main"])


def test_user_and_directories(tmp_path: Path) -> None:
    """Made in a root of their own, with the real programs."""
    (tmp_path / "etc/tmpfiles.d").mkdir(parents=True)
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    (tmp_path / "etc/group").write_text("root:x:0:\n")
    shutil.copy(DEPLOY / "tmpfiles.d/datastore-dumper.conf", tmp_path / "etc/tmpfiles.d")
    root = f"--root={tmp_path}"
    users = str(DEPLOY / "sysusers.d/datastore-dumper.conf")
    done = run(tool("systemd-sysusers"), root, "--replace=/usr/lib/sysusers.d/datastore-dumper.conf", users)
    if os.geteuid() != 0 and done.returncode != 0:
        pytest.skip(f"only root may: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    account = next(line for line in (tmp_path / "etc/passwd").read_text().splitlines() if "datastore-dumper" in line)
    name, _, uid, gid, *_, shell = account.split(":")
    assert (name, shell) == (settings(UNITS[0])["User"][0], "/usr/sbin/nologin")
    done = run(tool("systemd-tmpfiles"), root, "--create", "datastore-dumper.conf")
    assert done.returncode == 0, done.stderr
    for directory in ("lib/datastore-dumper", "lib/datastore-dumper/files", "cache/datastore-dumper"):
        made = (tmp_path / "var" / directory).stat()
        assert (made.st_uid, stat.S_IMODE(made.st_mode)) == (int(uid), 0o750)
        assert gid
    state = settings(UNITS[0])["StateDirectory"][0].split()
    assert all((tmp_path / "var/lib" / each).is_dir() for each in state)


def test_nothing_that_the_unit_forbids_is_needed() -> None:
    """What can be tried without systemd: memory that is written is never executed (MemoryDenyWriteExecute)."""
    source = (
        "import ctypes, sys; libc = ctypes.CDLL(None, use_errno=True)\n"
        "if libc.prctl(65, 1, 0, 0, 0): sys.exit(77)\n"  # PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN
        "sys.argv = ['datastore-dumper', 'config', 'validate', '--help']\n"
        "import psycopg, minio, isal, pyarrow\n"
        "from datastore_dumper.command import main; main()\n"
    )
    done = run(sys.executable, "-c", source)
    if done.returncode == 77:
        pytest.skip("this kernel cannot be asked for it")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage:" in done.stdout
