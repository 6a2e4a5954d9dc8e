"""What a site may have otherwise than CKAN, in a real CKAN: labels, no _id, names for people. And what it never has."""

from __future__ import annotations

import csv
import gzip
import io
import re
from datetime import datetime, timezone

import pytest

from tests.ckan.formats_portal import CKANS, PREFIX, FormatsPortal, assert_not_ready, is_file
from tests.support.ckan_site import SYSADMIN

pytestmark = pytest.mark.ckan


@pytest.fixture
def portal(formats_portal: FormatsPortal) -> FormatsPortal:
    return formats_portal


def rows_of(data: bytes, delimiter: str = ",") -> list[list[str]]:
    return list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), delimiter=delimiter))


def test_altered_files_are_only_for_sites_that_want_them(portal: FormatsPortal) -> None:
    before = len(portal.site.logs)
    try:
        assert portal.dumper.once(export={"header": "labels", "omit_id": True}) == 0
        for format, query in CKANS.items():
            response = portal.dump("rows", query)
            assert response.data == portal.core["rows", format].data
            assert is_file(response) == format.startswith(("json", "xml"))
        assert_not_ready(portal.dump("rows", "?format=csv.gz"), "csv.gz")
        assert is_file(portal.dump("rows", "?format=parquet"))
        warnings = re.findall("WARNING .*not handed out: .*", portal.site.logs[before:])
        assert len(warnings) == 1
        assert f"set {PREFIX}alterations = labels omit_id;" in warnings[0]

        with portal.restarted(alterations="labels"):
            assert not is_file(portal.dump("rows"))
        with portal.restarted(alterations="omit_id labels"):
            core = portal.core["rows", "csv"].data
            headers = [
                'The "key"',
                "a b",
                "a_b",
                "n",
                "f",
                "b",
                "d",
                "t",
                "Größe, Ort",
                "tz",
                "doc",
                "texts",
                "ints",
                "ü%s{}",
            ]
            expected = [headers, *(row[1:] for row in rows_of(core)[1:])]
            plain = portal.dump("rows")
            assert is_file(plain)
            assert rows_of(plain.data) == expected
            assert rows_of(portal.dump("rows", "?format=tsv").data, "\t") == expected
            assert portal.dump("rows", "?bom=True").data == b"\xef\xbb\xbf" + plain.data
            assert gzip.decompress(portal.dump("rows", "?format=csv.gz").data) == plain.data
            assert is_file(portal.dump("rows", "?format=json"))
            live = portal.dump("rows", "?latest=true")
            assert not is_file(live)
            assert live.data == core
    finally:
        assert portal.dumper.once() == 0
    assert is_file(portal.dump("rows"))
    assert portal.dump("rows").data == portal.core["rows", "csv"].data


def test_names_for_people(portal: FormatsPortal) -> None:
    day = datetime.now(timezone.utc)
    with portal.restarted(filename="name"):
        for query, extension in (("", "csv"), ("?format=csv.gz", "csv.gz"), ("?format=json&bom=1", "json")):
            response = portal.dump("rows_alias", query)
            assert is_file(response)
            assert re.fullmatch(
                rf'attachment; filename="Stops_rows-{day:%Y-%m-}\d\d.{extension}"',
                response.headers["Content-Disposition"],
            )
        assert portal.dump("rows").data == portal.core["rows", "csv"].data
        private = portal.dump("private", token=portal.site.platform.tokens[SYSADMIN])
        assert "Stops_private-" in private.headers["Content-Disposition"]


def test_a_file_for_another_release_is_not_handed_out(portal: FormatsPortal) -> None:
    running = portal.site.platform.version
    other = "2.11" if running != "2.11" else "2.12"
    try:
        assert portal.dumper.once(ckan={"compat": other}) == 0
        assert portal.dump("rows").data == portal.core["rows", "csv"].data
        assert not is_file(portal.dump("rows"))
        assert_not_ready(portal.dump("rows", "?format=csv.gz"), "csv.gz")
        assert f'made for CKAN {other}, this is {running}. Set ckan.compat to "{running}"' in portal.site.logs
    finally:
        assert portal.dumper.once() == 0
    assert is_file(portal.dump("rows"))
