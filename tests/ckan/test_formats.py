"""Every format that the daemon makes, in a real CKAN: CKAN's own formats byte for byte, and the site's extra formats.

A file comes with an ETag; CKAN's own dump never does.
"""

from __future__ import annotations

import gzip
import io
import re

import pyarrow.parquet
import pytest
from psycopg import sql

from datastore_dumper.formats import file_format_names
from tests.ckan.formats_portal import (
    CKANS,
    EMPTY,
    EXTRA,
    FIELDS,
    FULL,
    PLUGINS,
    TABLES,
    FormatsPortal,
    assert_not_ready,
    is_file,
    make_table,
    text_of,
)
from tests.support.ckan_site import SYSADMIN, USER

pytestmark = pytest.mark.ckan


@pytest.fixture
def portal(formats_portal: FormatsPortal) -> FormatsPortal:
    return formats_portal


# What CKAN means to send; Werkzeug makes application/octet-stream of it.
CONTENT_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "tsv": "text/tab-separated-values; charset=utf-8",
    "json": "application/json; charset=utf-8",
    "xml": "text/xml; charset=utf-8",
}


def test_the_daemon_makes_these_formats() -> None:
    assert set(file_format_names()) == {*CKANS, *EXTRA}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("format", CKANS)
def test_a_file_in_one_of_ckans_formats_cannot_be_told_from_ckans_dump(
    portal: FormatsPortal, format: str, name: str
) -> None:
    core = portal.core[name, format]
    assert core.status == 200
    assert "ETag" not in core.headers
    response = portal.dump(name, CKANS[format])
    assert is_file(response)
    assert response.data == core.data
    assert response.headers["Content-Disposition"] == core.headers["Content-Disposition"]
    assert response.headers["Content-Type"] == CONTENT_TYPES[format.removesuffix("-bom")]


@pytest.mark.parametrize("name", [*TABLES, "rows_alias"])
def test_csv_gz_is_ckans_csv_compressed(portal: FormatsPortal, name: str) -> None:
    response = portal.dump(name, "?format=csv.gz")
    assert is_file(response)
    table = name.removesuffix("_alias")
    assert gzip.decompress(response.data) == portal.core[table, "csv"].data
    assert response.headers["Content-Type"] == "application/gzip"
    assert "Content-Encoding" not in response.headers
    saved_as = portal.tables[table] if name == table or portal.site.platform.version == "2.12" else name
    assert response.headers["Content-Disposition"] == f'attachment; filename="{saved_as}.csv.gz"'


def test_parquet_has_the_values(portal: FormatsPortal) -> None:
    response = portal.dump("rows", "?format=parquet")
    assert is_file(response)
    assert response.headers["Content-Disposition"] == f'attachment; filename="{portal.tables["rows"]}.parquet"'
    table = pyarrow.parquet.read_table(io.BytesIO(response.data))
    assert table.column_names == ["_id", *(field["id"] for field in FIELDS)]
    first, null = table.slice(7, 1).to_pylist()[0], table.slice(300, 1).to_pylist()[0]
    assert (first["_id"], first["key"], first["a b"], first["a_b"]) == (8, FULL["key"], 7, 2**62)
    assert (first["texts"], first["ints"]) == (FULL["texts"], FULL["ints"])
    assert {name for name, value in null.items() if value is not None} == {"_id", "key"}
    assert table.num_rows == len(TABLES["rows"])


@pytest.mark.parametrize("format", [*CKANS, *EXTRA])
def test_head_says_what_get_would(portal: FormatsPortal, format: str) -> None:
    query = CKANS.get(format, f"?format={format}")
    head, get = portal.dump("rows", query, method="HEAD"), portal.dump("rows", query)
    assert (head.status, head.data) == (200, b"")
    for name in ("Content-Length", "Content-Type", "Content-Disposition", "ETag", "Last-Modified"):
        assert head.headers[name] == get.headers[name]
    assert int(head.headers["Content-Length"]) == len(get.data)


def test_without_the_plugin_ckan_refuses_extra_formats(portal: FormatsPortal) -> None:
    """With 400; CKAN 2.12 trips over the message and says 500 (one_of in ckan/logic/validators.py)."""
    for format in EXTRA:
        assert portal.core["rows", format].status in (400, 500)


def test_before_a_table_is_published_extra_formats_are_not_ready(portal: FormatsPortal) -> None:
    assert not is_file(portal.unpublished["csv"])
    for format in EXTRA:
        assert_not_ready(portal.unpublished[format], format)


@pytest.mark.parametrize("format", EXTRA)
def test_after_a_commit_the_file_is_not_ready_until_the_next_export(portal: FormatsPortal, format: str) -> None:
    portal.tables["changing"] = make_table(portal.site, f"changing_{EXTRA.index(format)}", [FULL])
    query = f"?format={format}"
    assert_not_ready(portal.dump("changing", query), format)
    assert portal.dumper.once() == 0
    old = portal.dump("changing", query)
    assert is_file(old)
    portal.site.action(
        "datastore_upsert", resource_id=portal.tables["changing"], records=[EMPTY], method="insert", force=True
    )
    assert_not_ready(portal.dump("changing", query, **{"If-None-Match": old.headers["ETag"]}), format)
    head = portal.dump("changing", query, method="HEAD")
    assert (head.status, head.data, head.headers["Retry-After"]) == (503, b"", "60")
    assert portal.dumper.once() == 0
    new = portal.dump("changing", query, **{"If-None-Match": old.headers["ETag"]})
    assert is_file(new)
    assert new.data != old.data


@pytest.mark.parametrize("format", EXTRA)
def test_a_file_that_storage_lost_is_not_ready(portal: FormatsPortal, format: str) -> None:
    portal.tables["lost"] = make_table(portal.site, f"lost_{EXTRA.index(format)}", [FULL])
    assert portal.dumper.once() == 0
    (path,) = (portal.dumper.directory / "files").rglob(f"{portal.tables['lost']}.{format}")
    path.unlink()
    assert_not_ready(portal.dump("lost", f"?format={format}"), format)
    assert is_file(portal.dump("lost"))
    assert re.search(rf"WARNING .*is not to be had as {format}: .*{path.name}", portal.site.logs)


@pytest.mark.parametrize("format", [*CKANS, *EXTRA])
def test_files_are_for_those_whom_ckan_lets_have_the_table(portal: FormatsPortal, format: str) -> None:
    tokens = portal.site.platform.tokens
    query = CKANS.get(format, f"?format={format}")
    for name in ("private", "private_alias"):
        allowed = portal.dump(name, query, token=tokens[SYSADMIN])
        assert is_file(allowed)
        for token in (None, tokens[USER], "wrong"):
            for method in ("GET", "HEAD"):
                refused = portal.dump(
                    name, query, token=token, method=method, **{"If-None-Match": allowed.headers["ETag"]}
                )
                assert refused.status == 404
                assert "ETag" not in refused.headers
    assert portal.dump("nothing", query).status == 404


def test_who_is_refused_learns_nothing_more_from_an_extra_format(portal: FormatsPortal) -> None:
    """Not even whether the arguments would do; and the page is CKAN's own."""
    title = re.compile(rb"<h1[^>]*>.*?</h1>.*?</p>|DataStore resource not found", re.DOTALL)
    for name in ("private", "nothing"):
        as_csv, as_parquet = portal.dump(name), portal.dump(name, "?format=parquet&limit=1")
        assert as_csv.status == as_parquet.status == 404
        assert title.findall(as_parquet.data) == title.findall(as_csv.data) != []


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("&limit=2&filters={}", "filters, limit"),
        ("&q=a", "q"),
        ("&latest=true", "latest"),
        ("&bom=True", "bom"),
        ("&sort=key", "sort"),
    ],
)
@pytest.mark.parametrize("format", EXTRA)
def test_part_of_a_table_in_an_extra_format_is_nobodys_to_answer(
    portal: FormatsPortal, format: str, query: str, named: str
) -> None:
    response = portal.dump("rows", f"?format={format}{query}")
    assert response.status == 400
    assert f"{format} are of whole tables: leave out {named}." in text_of(response)


@pytest.mark.parametrize(
    ("plugins", "settings"),
    [
        (PLUGINS, {"extra_formats": ""}),
        (PLUGINS, {"storage": ""}),
        ([*PLUGINS, "sample_datastore_plugin"], {}),
    ],
)
def test_where_no_extra_format_is_offered_ckan_refuses_it(
    portal: FormatsPortal, plugins: list[str], settings: dict[str, str]
) -> None:
    with portal.restarted(plugins, **settings):
        for format in EXTRA:
            response = portal.dump("rows", f"?format={format}")
            assert response.status == portal.core["rows", format].status
            assert response.headers["Content-Type"] == portal.core["rows", format].headers["Content-Type"]


def test_a_type_that_parquet_lacks_spoils_parquet_alone(portal: FormatsPortal) -> None:
    resource_id = portal.tables["odd"] = make_table(portal.site, "odd", [FULL])
    add = sql.SQL("ALTER TABLE {} ADD COLUMN place point DEFAULT '(1,2)'").format(sql.Identifier(resource_id))
    with portal.dumper.database.connect() as admin:
        admin.execute(add)
    core = {format: portal.dump("odd", query).data for format, query in CKANS.items()}
    assert portal.dumper.once() == 0
    for format, query in CKANS.items():
        response = portal.dump("odd", query)
        assert is_file(response)
        assert response.data == core[format]
    assert is_file(portal.dump("odd", "?format=csv.gz"))
    parquet = portal.dump("odd", "?format=parquet")
    assert parquet.status == 404
    assert "place" in text_of(parquet)
    assert "Retry-After" not in parquet.headers

    with portal.dumper.database.connect() as admin:
        admin.execute(sql.SQL("ALTER TABLE {} DROP COLUMN place").format(sql.Identifier(resource_id)))
    assert_not_ready(portal.dump("odd", "?format=parquet"), "parquet")
    assert portal.dumper.once() == 0
    assert is_file(portal.dump("odd", "?format=parquet"))
