"""Our actions in a real CKAN: what they tell, whom they refuse, what they ask of the daemon; and the signal of downloads."""

from __future__ import annotations

from typing import Any

import pytest

from tests.ckan.dumps_portal import AIR, BUDGET, COUNTERS, COUNTS, FORMATS, SECRET, STATIONS, TABLES, DumpsPortal
from tests.support.ckan_site import CkanError

pytestmark = pytest.mark.ckan

NO_SUCH_ID = "3f0c1e52-6d8f-4d9b-9d4b-111111111111"


def status(dumps: DumpsPortal, name: str, user: str = "") -> dict[str, Any]:
    token = dumps.tokens[user] if user else ""
    found: dict[str, Any] = dumps.site.action(
        "datastore_dump_status", token=token, resource_id=dumps.ids.get(name, name)
    )
    return found


def listed(dumps: DumpsPortal, user: str = "root", **asked: object) -> dict[str, Any]:
    found: dict[str, Any] = dumps.site.action("datastore_dump_list", token=dumps.tokens[user], **asked)
    return found


def names(found: dict[str, Any]) -> list[str]:
    return [result["resource_name"] for result in found["results"]]


def test_the_status_of_a_resource(dumps: DumpsPortal) -> None:
    found = status(dumps, COUNTERS)
    formats = found.pop("formats")
    assert found == {
        "resource_id": dumps.ids[COUNTERS],
        "state": "ready",
        "choice": "always",
        "pending_since": None,
        "pending_changes": 0,
        "requested_at": None,
        "progress": None,
    }
    assert sorted(f"{each['format']}{'-bom' if each['bom'] else ''}" for each in formats) == sorted(FORMATS)
    for each in formats:
        assert (each["ready"], each["fresh"], each["rows"]) == (True, True, 40)
        response = dumps.site.http.request("GET", each["url"])
        assert response.status == 200
        assert len(response.data) == each["bytes"]
        assert "ETag" in response.headers


def test_a_resource_that_changed(dumps: DumpsPortal) -> None:
    dumps.change(BUDGET)
    dumps.change(BUDGET)
    found = status(dumps, BUDGET)
    assert (found["state"], found["pending_changes"]) == ("waiting", 2)
    assert found["pending_since"] is not None
    assert {(each["ready"], each["fresh"]) for each in found["formats"]} == {(False, False)}


def test_an_export_under_way_and_one_that_failed(dumps: DumpsPortal) -> None:
    dumps.lease(COUNTS, 500, 60_000)
    dumps.fail(STATIONS, "the bucket ckan-dumps does not answer")
    found = status(dumps, COUNTS)
    assert found["state"] == "exporting"
    assert (found["progress"]["rows"], found["progress"]["expected_rows"]) == (500, 60_000)
    # What went wrong may name hosts and buckets.
    assert "last_error" not in status(dumps, STATIONS)
    assert "last_error" not in status(dumps, STATIONS, "member")
    assert status(dumps, STATIONS, "editor")["last_error"] == "the bucket ckan-dumps does not answer"
    assert status(dumps, STATIONS)["state"] == "failing"


@pytest.mark.parametrize("user", ["", "stranger", "member", "editor", "root"])
@pytest.mark.parametrize("name", [COUNTERS, SECRET, NO_SUCH_ID, "_table_metadata", "'; --", "x" * 500])
def test_the_status_tells_no_more_than_a_search(dumps: DumpsPortal, user: str, name: str) -> None:
    def ask(action: str, **data: object) -> int:
        token = dumps.tokens[user] if user else ""
        try:
            dumps.site.action(action, token=token, resource_id=dumps.ids.get(name, name), **data)
        except CkanError as error:
            return error.status
        return 200

    # CKAN lets everybody search its table of tables, which is no resource.
    core = 404 if name == "_table_metadata" else ask("datastore_search", limit=0)
    assert ask("datastore_dump_status") == core
    if core != 200:
        assert ask("datastore_dump_request") in (403, 404)


def test_an_alias(dumps: DumpsPortal) -> None:
    dumps.site.action("datastore_create", resource_id=dumps.ids[COUNTERS], aliases=["counters_alias"], force=True)
    try:
        assert status(dumps, "counters_alias")["resource_id"] == dumps.ids[COUNTERS]
        asked = dumps.site.action("datastore_dump_request", resource_id="counters_alias")
        assert asked["resource_id"] == dumps.ids[COUNTERS]
    finally:
        dumps.site.action("datastore_create", resource_id=dumps.ids[COUNTERS], aliases=[], force=True)


def test_a_table_that_gets_no_files(dumps: DumpsPortal) -> None:
    dumps.sql(f'ALTER TABLE "{dumps.ids[STATIONS]}" ENABLE ROW LEVEL SECURITY')
    try:
        assert status(dumps, STATIONS)["state"] == "none"
        with pytest.raises(CkanError, match="409"):
            dumps.site.action("datastore_dump_request", resource_id=dumps.ids[STATIONS])
    finally:
        dumps.sql(f'ALTER TABLE "{dumps.ids[STATIONS]}" DISABLE ROW LEVEL SECURITY')


def test_the_list(dumps: DumpsPortal) -> None:
    dumps.change(BUDGET)
    dumps.fail(STATIONS, "no room")
    dumps.lease(COUNTS, 1, None)
    found = listed(dumps, sort="state")
    assert names(found)[:3] == [STATIONS, COUNTS, BUDGET]
    assert sorted(names(found)) == sorted(TABLES)
    assert found["count"] == len(TABLES)
    assert found["daemons"] == 0
    totals = found["totals"]
    assert totals.pop("bytes") == sum(result["bytes"] for result in found["results"])
    assert totals == {
        "resources": 6,
        "ready": 3,
        "waiting": 1,
        "exporting": 1,
        "failing": 1,
        "unkept": 0,
        "files": 6 * len(FORMATS),
    }
    first = found["results"][0]
    assert (first["state"], first["last_error"], first["attempts"]) == ("failing", "no room", 3)
    assert (first["package_title"], first["rows"]) == ("Air quality", 12)
    assert sorted(first["formats"]) == sorted(FORMATS)


def test_search_sort_and_pages(dumps: DumpsPortal) -> None:
    by_rows = [COUNTS, AIR, BUDGET, SECRET, COUNTERS, STATIONS]
    assert names(listed(dumps, sort="rows desc")) == by_rows
    assert names(listed(dumps, sort="rows asc")) == by_rows[::-1]
    assert names(listed(dumps, sort="rows desc", limit=2, offset=2)) == by_rows[2:4]
    assert sorted(names(listed(dumps, q="air QUALITY"))) == sorted([AIR, STATIONS])
    assert names(listed(dumps, q="counters")) == [COUNTERS]
    assert names(listed(dumps, q=dumps.ids[AIR][5:20].upper())) == [AIR]
    for nothing in ("no such thing", "%", "_", "' OR '1'='1"):
        found = listed(dumps, q=nothing)
        assert (found["count"], found["results"]) == (0, []), nothing
        assert found["totals"]["resources"] == 6
    for unstorable in (rb"\u0000", rb"\ud800"):  # in Postgres
        answer = dumps.site.http.request(
            "POST",
            f"{dumps.site.url}/api/action/datastore_dump_list",
            body=b'{"q": "count%sers"}' % unstorable,
            headers={"Authorization": dumps.tokens["root"], "Content-Type": "application/json"},
        )
        assert names(answer.json()["result"]) == [COUNTERS]
    assert listed(dumps, q=COUNTERS, offset=50)["results"] == []
    assert names(listed(dumps, state="failing")) == []
    assert len(names(listed(dumps, state="ready", limit=100_000))) == 6
    for wrong in ({"sort": "rows; --"}, {"sort": "name"}, {"state": "odd"}, {"limit": -1}, {"offset": "x"}):
        with pytest.raises(CkanError) as refused:
            listed(dumps, **wrong)
        assert refused.value.status == 409, wrong


@pytest.mark.parametrize("user", ["", "stranger", "member", "editor"])
def test_the_list_is_for_sysadmins(dumps: DumpsPortal, user: str) -> None:
    with pytest.raises(CkanError, match="403"):
        dumps.site.action("datastore_dump_list", token=dumps.tokens[user] if user else "")


@pytest.mark.parametrize("user", ["", "stranger", "member"])
def test_a_request_is_for_those_who_may_change_the_table(dumps: DumpsPortal, user: str) -> None:
    with pytest.raises(CkanError, match="403"):
        dumps.site.action(
            "datastore_dump_request", token=dumps.tokens[user] if user else "", resource_id=dumps.ids[COUNTERS]
        )
    assert status(dumps, COUNTERS)["requested_at"] is None


def test_a_request_makes_the_daemon_export(dumps: DumpsPortal) -> None:
    """Quiet time is ten minutes here."""
    with dumps.dumper.running() as daemon:
        dumps.change(BUDGET)
        asked = dumps.site.action("datastore_dump_request", token=dumps.tokens["editor"], resource_id=dumps.ids[BUDGET])
        assert asked["force"] is False
        daemon.wait_for("published", resource_id=dumps.ids[BUDGET], full=False)
        assert status(dumps, BUDGET)["state"] == "ready"
        assert listed(dumps)["daemons"] == 1
        dumps.site.action("datastore_dump_request", resource_id=dumps.ids[BUDGET], force=True)
        daemon.wait_for("published", resource_id=dumps.ids[BUDGET], full=True)
        assert status(dumps, BUDGET)["requested_at"] is None


def test_without_our_schema(dumps: DumpsPortal) -> None:
    """The log says why; whoever asks is told only that it cannot be told."""
    dumps.sql("ALTER SCHEMA datastore_dumper RENAME TO elsewhere")
    try:
        for action, data in (
            ("datastore_dump_status", {"resource_id": dumps.ids[COUNTERS]}),
            ("datastore_dump_request", {"resource_id": dumps.ids[COUNTERS]}),
            ("datastore_dump_list", {}),
        ):
            with pytest.raises(CkanError, match="409") as refused:
                dumps.site.action(action, **data)
            assert "schema" not in str(refused.value)
        assert "lacks the functions of the schema datastore_dumper" in dumps.site.logs
    finally:
        dumps.sql("ALTER SCHEMA elsewhere RENAME TO datastore_dumper")


def test_a_file_that_may_be_behind_is_ready(dumps: DumpsPortal) -> None:
    """As a download of it would be answered: fresh it is not."""
    dumps.change(BUDGET)
    assert not any(each["ready"] for each in status(dumps, BUDGET)["formats"])
    dumps.site.action("resource_patch", id=dumps.ids[BUDGET], datastore_dump_max_staleness_seconds=3600)
    try:
        formats = status(dumps, BUDGET)["formats"]
        assert {(each["ready"], each["fresh"]) for each in formats} == {(True, False)}
        assert "ETag" in dumps.site.get(f"/datastore/dump/{dumps.ids[BUDGET]}").headers
    finally:
        dumps.site.action("resource_patch", id=dumps.ids[BUDGET], datastore_dump_max_staleness_seconds=0)


def test_each_download_is_announced(dumps: DumpsPortal) -> None:
    """A plugin for tests logs what the signal says."""
    path = f"/datastore/dump/{dumps.ids[COUNTERS]}?bom=True"
    file = next(each for each in status(dumps, COUNTERS)["formats"] if each["format"] == "csv" and each["bom"])
    dumps.site.restart(["datastore_dumper", "datastore", "download_listener"], dumps.settings)
    try:
        for headers in ({}, {"Range": "bytes=0-9"}, {"Range": "bytes=10-"}):
            assert dumps.site.get(path, **headers).status in (200, 206)
        etag = dumps.site.get(path, method="HEAD").headers["ETag"]
        assert dumps.site.get(path, **{"If-None-Match": etag}).status == 304
        assert dumps.site.get(f"{path}&latest=true").status == 200
        said = f"announced {dumps.ids[COUNTERS]} csv-bom {file['bytes']} file"
        assert dumps.site.logs.count(said) == 2
        assert dumps.site.logs.count("announced ") == 2
        dumps.site.restart(
            ["datastore_dumper", "datastore", "download_listener"],
            {**dumps.settings, "tests.listener_fails": "true"},
        )
        assert "ETag" in dumps.site.get(path).headers
        assert "a receiver of the signal of downloads failed" in dumps.site.logs
    finally:
        dumps.site.restart(settings=dumps.settings, plugins=["datastore_dumper", "datastore"])
