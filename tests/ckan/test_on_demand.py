"""Tables whose files are kept on demand, or not at all, in a real CKAN: who has them made, and what people are told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import urllib3

from tests.ckan.dumps_portal import (
    AIR,
    BUDGET,
    COUNTERS,
    COUNTS,
    PLUGINS,
    SECRET,
    STATIONS,
    DumpsPortal,
)  # fmt: skip
from tests.ckan.test_dumps_cli import ckan
from tests.support.ckan_site import CkanError

pytestmark = pytest.mark.ckan

ON_DEMAND = {"policy": "on_demand"}


@pytest.fixture(scope="module")
def fresh_process(dumps_site: DumpsPortal) -> DumpsPortal:
    """A CKAN that remembers nobody's requests."""
    dumps_site.site.restart(PLUGINS, dumps_site.settings)
    return dumps_site


@pytest.fixture
def unasked(fresh_process: DumpsPortal, dumps: DumpsPortal) -> Iterator[DumpsPortal]:
    """Nobody has asked for a file for long. Each test asks for tables of its own."""
    dumps.sql("UPDATE datastore_dumper.resource SET asked_at = now() - interval '1 year'")
    assert dumps.dumper.once(tables=ON_DEMAND) == 0
    yield dumps
    dumps.sql("UPDATE datastore_dumper.resource SET asked_at = NULL")


def download(
    dumps: DumpsPortal, name: str, query: str = "", *, method: str = "GET", user: str = ""
) -> urllib3.BaseHTTPResponse:
    token = dumps.tokens[user] if user else None
    return dumps.site.get(f"/datastore/dump/{dumps.ids[name]}{query}", method=method, token=token)


def requested(dumps: DumpsPortal) -> set[str]:
    rows = dumps.sql("SELECT resource_id FROM datastore_dumper.resource WHERE requested_at IS NOT NULL")
    by_id = {id: name for name, id in dumps.ids.items()}
    return {by_id[id] for (id,) in rows}


def status(dumps: DumpsPortal, name: str, user: str = "editor") -> dict[str, Any]:
    found: dict[str, Any] = dumps.site.action(
        "datastore_dump_status", token=dumps.tokens[user], resource_id=dumps.ids[name]
    )
    return found


def test_the_first_request_has_a_file_made_and_gets_ckans_dump(unasked: DumpsPortal) -> None:
    found = status(unasked, COUNTERS)
    assert (found["state"], found["choice"], found["formats"]) == ("unkept", "not_asked", [])
    assert found["choice_detail"] == "nobody has asked for it in 30 days"
    live = download(unasked, COUNTERS)
    assert (live.status, "ETag" in live.headers) == (200, False)
    assert requested(unasked) == {COUNTERS}
    assert status(unasked, COUNTERS)["state"] == "waiting"
    assert unasked.dumper.once(tables=ON_DEMAND) == 0
    ready = download(unasked, COUNTERS)
    assert "ETag" in ready.headers
    assert ready.data == live.data
    found = status(unasked, COUNTERS)
    assert (found["state"], found["choice"]) == ("ready", "on_demand")
    assert status(unasked, BUDGET)["state"] == "unkept"


def test_who_asks_for_nothing(unasked: DumpsPortal) -> None:
    """Whoever may not have the table, wants it live, or only looks whether the link works."""
    assert download(unasked, SECRET).status in (403, 404)
    assert download(unasked, SECRET, user="stranger").status in (403, 404)
    assert download(unasked, STATIONS, "?latest=true").status == 200
    assert download(unasked, STATIONS, "?limit=1").status == 200
    download(unasked, STATIONS, method="HEAD")
    assert requested(unasked) == set()
    assert download(unasked, SECRET, user="member").status == 200
    assert requested(unasked) == {SECRET}


def test_use_keeps_a_file(unasked: DumpsPortal) -> None:
    unasked.sql(
        "UPDATE datastore_dumper.resource SET asked_at = now() - interval '2 days' WHERE resource_id = %s",
        unasked.ids[AIR],
    )
    assert unasked.dumper.once(tables=ON_DEMAND) == 0
    assert "ETag" in download(unasked, AIR).headers
    asked = "SELECT asked_at FROM datastore_dumper.resource WHERE resource_id = %s AND asked_at > now() - interval '1 minute'"
    first = unasked.sql(asked, unasked.ids[AIR])
    assert len(first) == 1
    assert "ETag" in download(unasked, AIR, "?format=json").headers
    assert unasked.sql(asked, unasked.ids[AIR]) == first
    assert requested(unasked) == set()


def test_a_format_that_ckan_lacks(unasked: DumpsPortal) -> None:
    answer = download(unasked, COUNTS, "?format=parquet")
    assert (answer.status, "Retry-After" in answer.headers) == (503, True)
    assert requested(unasked) == {COUNTS}
    excluded = {"exclude": [unasked.ids[COUNTS]], "formats": [f"{unasked.ids[BUDGET]}=csv"]}
    assert unasked.dumper.once(tables=excluded) == 0
    answer = download(unasked, COUNTS, "?format=parquet")
    assert answer.status == 404
    assert b"this site makes no files of it" in answer.data
    assert b"tables.exclude" not in answer.data, "the configuration is not for visitors"
    assert download(unasked, BUDGET, "?format=parquet").status == 404
    assert download(unasked, COUNTS).status == 200


def test_what_sysadmins_are_told(unasked: DumpsPortal) -> None:
    tables = {"min_rows": 100, "exclude": [unasked.ids[BUDGET]]}
    assert unasked.dumper.once(tables=tables) == 0
    found = unasked.site.action("datastore_dump_list", token=unasked.tokens["root"], state="unkept", sort="resource_id")
    assert {each["resource_name"]: each["choice"] for each in found["results"]} == {
        BUDGET: "excluded",
        COUNTERS: "too_small",
        STATIONS: "too_small",
    }
    assert found["totals"]["unkept"] == 3
    assert found["totals"]["failing"] == 0
    details = {each["resource_name"]: each["choice_detail"] for each in found["results"]}
    assert details[STATIONS] == "12 rows: tables.min_rows is 100"
    assert "choice_detail" not in status(unasked, STATIONS, "stranger")
    with pytest.raises(CkanError, match="no ready-made dumps"):
        unasked.site.action("datastore_dump_request", token=unasked.tokens["root"], resource_id=unasked.ids[BUDGET])
    listing = ckan(unasked, "status", "--state", "unkept").stdout
    assert "12 rows: tables.min_rows is 100" in listing
    page = unasked.site.get("/ckan-admin/datastore-dumps?state=unkept", token=unasked.tokens["root"]).data.decode()
    assert page.count("too small") == 2
    assert "Not kept" in page
