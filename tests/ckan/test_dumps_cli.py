"""`ckan datastore-dumper`: for those who have CKAN at hand and not the daemon."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.ckan.dumps_portal import AIR, BUDGET, COUNTERS, PREFIX, SECRET, STATIONS, DumpsPortal

pytestmark = pytest.mark.ckan

NO_SUCH_ID = "3f0c1e52-6d8f-4d9b-9d4b-111111111111"


def ckan(dumps: DumpsPortal, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`ckan datastore-dumper ...` with the site's configuration."""
    environment = dumps.site.platform.environment
    return subprocess.run(
        [
            environment.directory / "bin" / "ckan",
            "-c",
            dumps.site.directory / "ckan.ini",
            "datastore-dumper",
            *arguments,
        ],
        env=environment.environ(),
        cwd=dumps.site.directory,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_status(dumps: DumpsPortal) -> None:
    dumps.change(BUDGET)
    dumps.fail(STATIONS, "no room")
    result = ckan(dumps, "status")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) == 7
    assert lines[0].startswith(f"{dumps.ids[STATIONS]}  failing")
    assert lines[0].endswith("no room")
    assert lines[-1].startswith("resources 6: ready 4, waiting 1, exporting 0, failing 1, unkept 0; files 42, ")
    assert "waiting" in ckan(dumps, "status", "-q", "budget 2026").stdout.splitlines()[0]
    assert len(ckan(dumps, "status", "--state", "ready").stdout.splitlines()) == 5


def test_status_of_one(dumps: DumpsPortal) -> None:
    dumps.fail(SECRET, "no room")
    result = ckan(dumps, "status", dumps.ids[SECRET])
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"{dumps.ids[SECRET]}  failing\n  error: no room\n")
    assert "  csv with byte order mark: ready, 300 rows, " in result.stdout
    found = json.loads(ckan(dumps, "status", dumps.ids[SECRET], "--json").stdout)
    assert found == dumps.site.action("datastore_dump_status", resource_id=dumps.ids[SECRET])


@pytest.mark.parametrize("command", ["status", "request"])
def test_an_unknown_resource(dumps: DumpsPortal, command: str) -> None:
    result = ckan(dumps, command, NO_SUCH_ID)
    assert result.returncode == 1
    assert f'Resource "{NO_SUCH_ID}" was not found.' in result.stderr
    assert "Traceback" not in result.stderr


def test_request(dumps: DumpsPortal) -> None:
    assert ckan(dumps, "request", dumps.ids[COUNTERS], dumps.ids[AIR]).returncode == 0
    assert ckan(dumps, "request", "--force", dumps.ids[AIR]).returncode == 0
    asked = dumps.sql(
        "SELECT resource_id, requested_full FROM datastore_dumper.resource WHERE requested_at IS NOT NULL ORDER BY 2"
    )
    assert asked == [(dumps.ids[COUNTERS], False), (dumps.ids[AIR], True)]


def test_check(dumps: DumpsPortal) -> None:
    result = ckan(dumps, "check")
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("no daemon is connected to the DataStore database")
    with dumps.dumper.running():
        result = ckan(dumps, "check")
        assert (result.returncode, result.stdout) == (0, "Ready-made dumps are handed out.\n"), result.stderr
        dumps.sql("UPDATE datastore_dumper.dump_status SET compat = '2.9'")
        for file in (dumps.dumper.directory / "files").rglob("*.parquet"):
            file.unlink()
        result = ckan(dumps, "check")
        assert result.returncode == 1
        assert "files in the format csv are not handed out: they are made for CKAN 2.9" in result.stderr
        assert "parquet" in result.stderr
        dumps.sql("REVOKE EXECUTE ON FUNCTION datastore_dumper.request FROM ckan_write")
        assert "the role of ckan.datastore.write_url may not execute" in ckan(dumps, "check").stderr
        dumps.sql("GRANT EXECUTE ON FUNCTION datastore_dumper.request TO ckan_write")
        for name in dumps.ids.values():
            dumps.sql("SELECT datastore_dumper.request(%s, true)", name)


def test_check_of_wrong_settings(dumps: DumpsPortal) -> None:
    dumps.site.restart(
        settings={**dumps.settings, f"{PREFIX}storage": "tape"}, plugins=["datastore_dumper", "datastore"]
    )
    try:
        result = ckan(dumps, "check")
        assert result.returncode == 1
        assert f"{PREFIX}storage is 'tape'" in result.stderr
    finally:
        dumps.site.restart(settings=dumps.settings, plugins=["datastore_dumper", "datastore"])
