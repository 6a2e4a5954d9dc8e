"""Who gets a file: exactly those whom CKAN without the plugin would send its dump, and nobody else ever sees a link.

Each question is asked of the same CKAN twice, before it has the plugin and with it. The files are in a bucket.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.ckan.access import (
    EXTRA,
    HOSTILE,
    PLUGINS,
    PREFIX,
    RECORDS,
    Access,
    access_site,
    is_handed_out,
    make_table,
    questions,
    raw_status,
)
from tests.support.ckan_site import CkanError, CkanPlatform
from tests.support.seaweedfs import S3Server
from tests.support.waiting import eventually

pytestmark = pytest.mark.ckan

LINK = "/datastore-dumps/"


@pytest.fixture(scope="module")
def access(
    ckan_platform: CkanPlatform, tmp_path_factory: pytest.TempPathFactory, s3_server: S3Server
) -> Iterator[Access]:
    s3_server.client().make_bucket("access")
    with access_site(ckan_platform, tmp_path_factory.mktemp("dumper"), s3_server, "access") as made:
        yield made


def test_the_people_are_who_they_are_said_to_be(access: Access) -> None:
    """Otherwise the matrix below would compare refusals with refusals."""
    allowed = {question for question, status in access.without_plugin.items() if status == 200}
    for person in ("member", "editor", "sysadmin", "sysadmin's token", "member's token"):
        assert f"{person} GET private" in allowed, person
    for person in ("anonymous", "other organisation", "other organisation's token", "revoked token", "wrong token"):
        assert f"{person} GET private" not in allowed, person
        assert f"{person} GET public" in allowed, person
    assert "anonymous GET draft" not in allowed
    assert "sysadmin GET deleted dataset" in allowed
    assert "anonymous GET deleted dataset" not in allowed
    assert not [question for question in allowed if question.endswith(("deleted resource", "unknown id"))]
    # CKAN's metadata has no such resource, but sysadmins are asked nothing.
    assert {question.partition(" ")[0] for question in allowed if question.endswith("orphan")} <= {
        "sysadmin",
        "sysadmin's",
    }


def test_a_file_for_those_whom_ckan_sends_its_dump_and_ckans_refusal_for_all_others(access: Access) -> None:
    asked = questions(access)
    assert len(asked) == len(access.people) * len(access.tables) * 2
    for question, (person, method, name) in asked.items():
        response = access.ask(person, name, method=method)
        expected = access.without_plugin[question]
        if expected != 200:
            assert (response.status, is_handed_out(response)) == (expected, False), question
        elif method == "GET":
            assert response.status == 302, question
            assert LINK in response.headers["Location"]
        else:
            assert response.status == 200, question
            assert "ETag" in response.headers, question


@pytest.mark.patient
def test_a_format_that_ckan_lacks_is_for_the_same_people(access: Access) -> None:
    for question, (person, method, name) in questions(access).items():
        for query in (f"?format={EXTRA}", f"?format={EXTRA}&limit=1"):
            response = access.ask(person, name, query, method)
            if access.without_plugin[question] != 200:
                assert response.status == 404, question
                assert not is_handed_out(response), question
            elif "limit" in query:
                assert response.status == 400, question
            else:
                assert response.status == (302 if method == "GET" else 200), question


def test_conditions_do_not_open_what_is_closed(access: Access) -> None:
    """Somebody may know the etag of a file that was public."""
    etag = access.ask("sysadmin", "private_alias", method="HEAD").headers["ETag"]
    for headers in ({"If-None-Match": etag}, {"If-Match": etag}, {"Range": "bytes=0-9", "If-Range": etag}):
        for method in ("GET", "HEAD"):
            response = access.site.get("/datastore/dump/private_alias", method=method, **headers)
            assert response.status == access.without_plugin["anonymous GET private"]
            assert not is_handed_out(response)


def test_a_dataset_is_closed_at_once(access: Access) -> None:
    """Nothing in the DataStore changes when CKAN's metadata does."""
    resource_id = make_table(
        access.site, "closing", owner_org=access.site.action("organization_show", id="owner")["id"]
    )
    assert access.dumper.once() == 0
    assert access.ask("anonymous", resource_id).status == 302
    access.site.action("package_patch", id="closing_data", private=True)
    assert not is_handed_out(access.ask("anonymous", resource_id))
    assert access.ask("member", resource_id).status == 302
    access.site.action("organization_member_delete", id="owner", username="member")
    assert not is_handed_out(access.ask("member", resource_id))
    access.site.action("organization_member_create", id="owner", username="member", role="member")


@pytest.mark.patient
@pytest.mark.parametrize("person", ["anonymous", "sysadmin"])
def test_hostile_ids_are_ckans_to_answer(access: Access, person: str) -> None:
    headers = access.people[person]
    paths = [f"/datastore/dump/{name}{query}" for name in HOSTILE for query in ("", "?format=json")]
    answers = {path: raw_status(access.site, path, headers) for path in paths}
    with access.restarted(["datastore"]):
        for path, (status, seen, body) in answers.items():
            core, core_headers, core_body = raw_status(access.site, path, headers)
            assert status == core, path
            assert set(seen) <= {*core_headers, "Vary", "Set-Cookie"}, path
            if status == 200:
                assert body == core_body
            for word in (b"Traceback", b"psycopg2", b"datastore_dumper.", LINK.encode()):
                assert word not in body or word in core_body, path


@pytest.mark.patient
def test_hostile_values_are_ckans_to_answer(access: Access) -> None:
    public = access.tables["public"]
    queries = (
        *("format=" + "a" * 8000, "format=csv%0d%0aX:%20y", "bom=" + "%27" * 2000, "format[]=csv", "format=csv%00"),
        *(
            "sort=" + "%22" * 2000,
            "latest=" + "x" * 8000,
            "limit=999999999999999999999",
            "offset=-1",
            "a" * 8000 + "=b",
        ),
    )
    answers = {query: raw_status(access.site, f"/datastore/dump/{public}?{query}", {}) for query in queries}
    with access.restarted(["datastore"]):
        for query, (status, _, _) in answers.items():
            core, _, _ = raw_status(access.site, f"/datastore/dump/{public}?{query}", {})
            assert status == core or (status, core) == (302, 200), query[:60]
    for status, headers, _ in answers.values():
        assert "X" not in headers
        assert status != 302 or LINK in headers["Location"]


def test_long_headers_change_nothing(access: Access) -> None:
    """8 kB: more is refused by web servers."""
    long = "a" * 8000
    for headers in (
        {"If-None-Match": f'"{long}"'},
        {"Range": f"bytes=0-{'9' * 8000}"},
        {"If-Modified-Since": long},
        {"User-Agent": long},
        {"Referer": f"https://example.org/{long}"},
        {"X-Accel-Redirect": "/_datastore_dumps/a", "X-Sendfile-Type": "X-Accel-Redirect"},
    ):
        status, seen, _ = raw_status(access.site, f"/datastore/dump/{access.tables['public']}", headers)
        assert status == 302
        assert LINK in seen["Location"]
        assert "X-Accel-Redirect" not in seen


def test_links_are_signed_for_one_file_and_for_a_while(access: Access) -> None:
    """Tampered with, they are refused, by the service, which is the right party."""
    # No less: its date has whole seconds, and the service counts from there.
    with access.restarted(PLUGINS, ckanext__datastore_dumper__link_expiry_seconds="9"):
        link = access.ask("member", access.tables["private"]).headers["Location"]
        fetch = access.site.http.request
        assert fetch("GET", link).status == 200
        other = access.ask("member", access.tables["public"]).headers["Location"].partition("?")[0]
        query = link.partition("?")[2]
        for tampered in (
            link.partition("?")[0],
            f"{other}?{query}",
            link.replace("X-Amz-Expires=9", "X-Amz-Expires=9999"),
            link[:-1] + ("0" if link[-1] != "0" else "1"),
            link.replace("attachment", "inline"),
        ):
            assert tampered != link
            refused = fetch("GET", tampered)
            assert refused.status == 403, tampered
            assert b"row 1" not in refused.data
        assert fetch("PUT", link, body=b"mine").status == 403
        assert fetch("DELETE", link).status == 403

        def expired() -> bool:
            return bool(fetch("GET", link).status == 403)

        eventually(expired)


def test_plugins_that_refuse_are_heard(access: Access) -> None:
    """A chained action counts, not only a chained authorization; even where it is vouched for that it filters no rows."""
    by_action, by_auth = access.tables["private"], access.tables["public"]
    open_to_all = make_table(
        access.site, "open_to_all", owner_org=access.site.action("organization_show", id="owner")["id"]
    )
    assert access.dumper.once() == 0
    others = ["refusing_action", "refusing_auth"]
    # An alias is refused by CKAN until 2.11; later it is resolved before plugins are asked.
    refusals = {"tests__refused_by_action": f"{by_action} open_to_all_alias", "tests__refused_by_auth": by_auth}
    people = ("anonymous", "member", "sysadmin")
    with access.restarted(["datastore", *others], **refusals):
        core = {
            (person, name): access.ask(person, name).status
            for person in people
            for name in (by_action, by_auth, open_to_all, "open_to_all_alias")
        }
        with pytest.raises(CkanError):
            access.site.action("datastore_search", resource_id=by_action)
    assert core["anonymous", by_auth] == 404
    vouched = {f"{PREFIX.replace('.', '__')}plugins_without_row_filters": "refusing_action"}
    with access.restarted([*PLUGINS, *others], **refusals, **vouched):
        for (person, name), status in core.items():
            response = access.ask(person, name)
            refused = name == by_action or status != 200
            assert is_handed_out(response) != refused, (person, name)
            assert response.status == (status if refused else 302), (person, name)
        # Nor are the sizes and times of files told to those who are refused.
        for dataset, name in (("private_data", by_action), ("open_to_all_data", open_to_all)):
            page = access.site.get(f"/dataset/{dataset}/resource/{name}", **access.people["member"])
            assert page.status == 200
            assert (b"datastore-dumper-menu" in page.data) == (name == open_to_all)


def test_where_rows_may_be_filtered_there_are_no_files(access: Access) -> None:
    for plugin in ("row_filter", "refusing_action"):
        before = len(access.site.logs)
        with access.restarted([*PLUGINS, plugin]):
            answers = {person: access.ask(person, access.tables["public"]) for person in ("anonymous", "member")}
            assert not any(map(is_handed_out, answers.values()))
            rows = {person: answer.data.count(b"row ") for person, answer in answers.items()}
            expected = 3 if plugin == "row_filter" else len(RECORDS)
            assert rows == {"anonymous": expected, "member": len(RECORDS)}
            assert f"different rows of a table: {plugin}" in access.site.logs[before:]
            # How many rows there are in all is not told, either, but to those who may change them.
            told = {
                token: access.site.action("datastore_dump_status", token=token, resource_id=access.tables["public"])
                for token in ("", access.people["member's token"]["Authorization"])
            }
            assert {(each["state"], len(each["formats"])) for each in told.values()} == {("none", 0)}
            own = access.site.action("datastore_dump_status", resource_id=access.tables["public"])
            assert {each["ready"] for each in own["formats"]} == {False}


def test_the_endpoint_that_lets_everybody_in_keeps_its_name(access: Access) -> None:
    """`ckanext.noanonaccess.allowed_blueprint = datastore_dumper.dump`, as sites with the plugin's predecessor have it."""
    plugins = [*PLUGINS, "no_anonymous"]
    name = access.tables["public"]
    with access.restarted(plugins):
        closed = access.ask("anonymous", name)
        assert closed.status == 302
        assert "/user/login" in closed.headers["Location"]
        assert access.ask("anonymous", name, method="HEAD").status == 302
        assert LINK in access.ask("member", name).headers["Location"]
    with access.restarted(plugins, ckanext__noanonaccess__allowed_blueprint="datastore_dumper.dump"):
        assert LINK in access.ask("anonymous", name).headers["Location"]
        live = access.ask("anonymous", name, "?latest=true")
        assert (live.status, live.data.count(b"row ")) == (200, len(RECORDS))
        private = access.ask("anonymous", access.tables["private"])
        assert private.status == access.without_plugin["anonymous GET private"]
        assert "/user/login" in access.site.get("/dataset/").headers["Location"]


@pytest.mark.patient
def test_tabledesigner_is_no_hindrance(access: Access) -> None:
    if access.site.platform.version == "2.10":
        pytest.skip("CKAN 2.10 has no tabledesigner")
    with access.restarted(["datastore_dumper", "tabledesigner", "datastore"]):
        assert LINK in access.ask("anonymous", access.tables["public"]).headers["Location"]
