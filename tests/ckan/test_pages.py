"""The download menu and the administration page in a real browser: what they show and do, by keyboard and without a mouse,
narrow and wide, in another language, with and without scripts; and that axe finds nothing to object to."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import parse_qsl

import pytest

from tests.ckan.dumps_portal import BUDGET, COUNTERS, COUNTS, PASSWORD, PLUGINS, SECRET, STATIONS, DumpsPortal
from tests.support.browser import DOWN, ENTER, Browser, headless_chromium
from tests.support.waiting import eventually

pytestmark = pytest.mark.ckan

ADMIN = "/ckan-admin/datastore-dumps"
MENU = "#dropdownDownloadFormat"
ITEMS = ".datastore-dumper-menu li"
ROWS = ".datastore-dumper-table tbody tr"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with headless_chromium(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture
def visitor(chromium: Browser) -> Browser:
    """Nobody is logged in. The page before is left first: an answer that comes late would bring its session back."""
    chromium.open("about:blank")
    chromium.devtools("Network.clearBrowserCookies")
    chromium.resize(1280)
    return chromium


@pytest.fixture
def sysadmin(visitor: Browser, dumps: DumpsPortal) -> Browser:
    log_in(visitor, dumps, "root")
    return visitor


def log_in(browser: Browser, dumps: DumpsPortal, name: str) -> None:
    browser.open(f"{dumps.site.url}/user/login")
    browser.type("#field-login", name)
    browser.type("#field-password", PASSWORD + ENTER)
    eventually(lambda: "/user/login" not in browser.url)


def open_resource(browser: Browser, dumps: DumpsPortal, name: str, dataset: str = "cycle-traffic") -> None:
    browser.open(f"{dumps.site.url}/dataset/{dataset}/resource/{dumps.ids[name]}")


def test_the_menu_shows_what_is_ready(visitor: Browser, dumps: DumpsPortal) -> None:
    open_resource(visitor, dumps, COUNTS)
    items = visitor.texts(ITEMS)
    assert [item.split(" ")[0] for item in items] == ["CSV", "TSV", "JSON", "XML", "CSV", "Parquet"]
    for item in items:
        assert "iB, " in item
        assert item.endswith("(UTC)")
    links = visitor.run(f"return Array.from(document.querySelectorAll('{ITEMS} a'), a => a.href)")
    assert [link.partition("?")[2] for link in links] == [
        "bom=True",
        "format=tsv&bom=True",
        "format=json",
        "format=xml",
        "format=csv.gz",
        "format=parquet",
    ]
    for link in links:
        response = dumps.site.http.request("HEAD", link)
        assert response.status == 200
        assert "ETag" in response.headers
    assert visitor.violations(".datastore-dumper-menu") == []


def test_the_menu_marks_what_is_being_prepared(visitor: Browser, dumps: DumpsPortal) -> None:
    dumps.change(COUNTS)
    open_resource(visitor, dumps, COUNTS)
    items = visitor.texts(ITEMS)
    assert items == [f"{label} being prepared" for label in ("CSV", "TSV", "JSON", "XML", "CSV (gzip)", "Parquet")]
    # CKAN itself makes the dumps that it knows; there is nothing to be had of the others yet.
    assert visitor.count(f"{ITEMS} a") == 4
    assert visitor.count(f"{ITEMS} [aria-disabled=true]") == 2
    assert visitor.violations(".resource-actions, .actions") == []


def test_the_menu_by_keyboard(visitor: Browser, dumps: DumpsPortal) -> None:
    open_resource(visitor, dumps, COUNTS)
    visitor.run(f"document.querySelector('{MENU}').focus()")
    visitor.press(ENTER)
    eventually(lambda: visitor.attribute(MENU, "aria-expanded") == "true")
    visitor.press(DOWN)
    assert "CSV" in visitor.run("return document.activeElement.textContent")
    assert visitor.violations(".datastore-dumper-menu") == []


def test_a_format_that_cannot_be_had_is_not_offered(visitor: Browser, dumps: DumpsPortal) -> None:
    name = dumps.ids[STATIONS]
    dumps.sql(f'ALTER TABLE "{name}" ADD COLUMN spot point')
    try:
        dumps.publish()
        open_resource(visitor, dumps, STATIONS, "air-quality")
        assert [item.split(" ")[0] for item in visitor.texts(ITEMS)] == ["CSV", "TSV", "JSON", "XML", "CSV"]
    finally:
        dumps.sql(f'ALTER TABLE "{name}" DROP COLUMN spot')


def test_without_us_the_menu_is_ckans_own(visitor: Browser, dumps: DumpsPortal) -> None:
    dumps.sql("ALTER SCHEMA datastore_dumper RENAME TO elsewhere")
    try:
        open_resource(visitor, dumps, COUNTS)
        assert visitor.count(".datastore-dumper-menu") == 0
        assert visitor.texts(".dropdown-menu[aria-labelledby=dropdownDownloadFormat] li") == [
            "CSV",
            "TSV",
            "JSON",
            "XML",
        ]
        assert "has CKAN's own download menu" in dumps.site.logs
    finally:
        dumps.sql("ALTER SCHEMA elsewhere RENAME TO datastore_dumper")


def test_a_private_resource_shows_nothing(visitor: Browser, dumps: DumpsPortal) -> None:
    page = dumps.site.get(f"/dataset/next-budget/resource/{dumps.ids[SECRET]}")
    assert page.status == 404
    assert b"datastore-dumper" not in page.data


def test_the_page_lists_all(sysadmin: Browser, dumps: DumpsPortal) -> None:
    dumps.change(BUDGET)
    dumps.fail(STATIONS, "The bucket does not answer: <b>refused</b>")
    dumps.lease(COUNTS, 120_000, 420_000)
    sysadmin.open(dumps.site.url + ADMIN)
    assert sysadmin.text(".nav-tabs .active") == "DataStore dumps"
    assert sysadmin.texts(".datastore-dumper-states li") == [
        "All 6",
        "Failing 1",
        "Being made 1",
        "Out of date 1",
        "Ready 3",
        "Not kept 0",
    ]
    rows = sysadmin.texts(ROWS)
    assert len(rows) == 6
    assert rows[0].startswith(f"{STATIONS} Air quality Failing The bucket does not answer: <b>refused</b> 3 attempts")
    assert rows[1].startswith(f"{COUNTS} Cycle traffic Being made 120,000 of about 420,000 rows")
    assert rows[2].startswith(f"{BUDGET} Budget Out of date")
    assert "No daemon is connected" in sysadmin.text(".alert-warning")
    assert sysadmin.attribute("progress", "value") == "120000"
    assert sysadmin.violations(".primary") == []


def test_the_page_breaks_no_rule_that_ckans_own_keeps(sysadmin: Browser, dumps: DumpsPortal) -> None:
    def rules() -> set[str]:
        return {violation.rule for violation in sysadmin.violations()}

    resource = f"/dataset/cycle-traffic/resource/{dumps.ids[COUNTS]}"
    ours = {}
    for path, of_core in ((ADMIN, "/ckan-admin/"), (resource, resource)):
        sysadmin.open(dumps.site.url + path)
        ours[of_core] = rules()
    dumps.site.restart(["datastore"], dumps.settings)
    try:
        for path, with_us in ours.items():
            sysadmin.open(dumps.site.url + path)

            def nothing_is_ours(with_us: set[str] = with_us) -> bool:
                assert with_us - rules() == set()
                return True

            eventually(nothing_is_ours)  # CKAN's scripts go on when the page is there, and break rules of their own
    finally:
        dumps.site.restart(PLUGINS, dumps.settings)


def test_search_sort_and_states(sysadmin: Browser, dumps: DumpsPortal) -> None:
    sysadmin.open(dumps.site.url + ADMIN)
    sysadmin.type("#datastore-dumps-q", "traffic" + ENTER)
    eventually(lambda: "q=traffic" in sysadmin.url)
    sysadmin.wait_for(ROWS)
    assert sysadmin.count(ROWS) == 2
    assert "2 resources found." in sysadmin.text(".datastore-dumper-found")
    sysadmin.click('th a[href*="sort=rows"]')
    eventually(lambda: "sort=rows" in sysadmin.url)
    assert [row.split(" Cycle")[0] for row in sysadmin.texts(ROWS)] == [COUNTERS, COUNTS]
    assert sysadmin.attribute('th:has(a[href*="sort=rows"])', "aria-sort") == "ascending"
    sysadmin.click('th a[href*="sort=rows"]')
    eventually(lambda: "desc" in sysadmin.url)
    assert [row.split(" Cycle")[0] for row in sysadmin.texts(ROWS)] == [COUNTS, COUNTERS]
    assert sysadmin.attribute('th:has(a[href*="sort=rows"])', "aria-sort") == "descending"
    sysadmin.click('.datastore-dumper-states a[href*="state=failing"]')
    eventually(lambda: "state=failing" in sysadmin.url)
    assert sysadmin.text(".empty") == "No resources found."
    assert sysadmin.violations(".primary") == []


def test_pages(sysadmin: Browser, dumps: DumpsPortal) -> None:
    """Twenty-five to a page."""
    names = [f"extra-{number:02}" for number in range(30)]
    for name in names:
        dumps.sql(f'SET ROLE ckan_write; CREATE TABLE "{name}" (_id serial PRIMARY KEY, a text)')
    try:
        sysadmin.open(f"{dumps.site.url}{ADMIN}?sort=resource_id&q=extra-")
        assert sysadmin.count(ROWS) == 25
        assert sysadmin.violations(".primary") == []
        sysadmin.click(".pagination a[rel=next]")
        eventually(lambda: "page=2" in sysadmin.url)
        assert [row.split(" ")[0] for row in sysadmin.texts(ROWS)] == names[25:]
        assert "CKAN has no such resource" in sysadmin.texts(ROWS)[0]
        pages = ("99", "0", "-1", "x", "9" * 30, "9" * 5000)
        for odd in (*(f"page={page}" for page in pages), "sort=odd", "state=odd", "q=%00", "q=%ff"):
            sysadmin.open(f"{dumps.site.url}{ADMIN}?{odd}")
            assert sysadmin.count(".datastore-dumper-states") == 1, odd
    finally:
        for name in names:
            dumps.sql(f'DROP TABLE "{name}"')


def test_dump_now(sysadmin: Browser, dumps: DumpsPortal) -> None:
    """By keyboard; the script then shows by itself that the file has been made."""
    dumps.change(BUDGET)
    with dumps.dumper.running() as daemon:
        sysadmin.open(f"{dumps.site.url}{ADMIN}?q=Budget&sort=rows+desc")
        sysadmin.run(f"document.querySelector('button[aria-label=\"Dump now: {BUDGET}\"]').focus()")
        sysadmin.press(ENTER)
        sysadmin.wait_for(".flash-messages .alert")
        assert f"The dump of {dumps.ids[BUDGET]} was asked for." in sysadmin.text(".flash-messages .alert")
        assert "q=Budget" in sysadmin.url
        daemon.wait_for("published", resource_id=dumps.ids[BUDGET], full=False)
        state = f'[data-live="state-{dumps.ids[BUDGET]}"]'
        eventually(lambda: sysadmin.text(state) == "Ready")
        sysadmin.click(f'button[aria-label="Make anew: {BUDGET}"]')
        daemon.wait_for("published", resource_id=dumps.ids[BUDGET], full=True)


ANSWERED = "return performance.getEntriesByType('resource').some(each => each.responseStatus === arguments[0])"
"""Whether the script of the page was given an answer of this status (Resource Timing)."""


def test_progress_is_live(sysadmin: Browser, dumps: DumpsPortal) -> None:
    """And the focus stays where it is. An answer that fails does not end it."""
    dumps.lease(COUNTS, 1_000, 60_000)
    sysadmin.open(dumps.site.url + ADMIN)
    button = f"button[aria-label='Dump now: {COUNTS}']"
    sysadmin.run("document.querySelector(arguments[0]).focus()", button)
    assert sysadmin.attribute("progress", "value") == "1000"
    dumps.lease(COUNTS, 30_000, 60_000)
    eventually(lambda: sysadmin.attribute("progress", "value") == "30000")
    assert sysadmin.run("return document.activeElement.matches(arguments[0])", button)
    with dumps.dumper.database.connect() as admin, admin.transaction():
        admin.execute("LOCK TABLE datastore_dumper.resource IN ACCESS EXCLUSIVE MODE")
        eventually(lambda: sysadmin.run(ANSWERED, 503))  # Postgres was waited for in vain
    dumps.settle()
    eventually(lambda: sysadmin.count("progress") == 0)
    assert sysadmin.text(f'[data-live="state-{dumps.ids[COUNTS]}"]') == "Ready"


def test_without_scripts(sysadmin: Browser, dumps: DumpsPortal) -> None:
    """Search, order and requests are links and forms."""
    dumps.change(BUDGET)
    sysadmin.devtools("Emulation.setScriptExecutionDisabled", value=True)
    try:
        sysadmin.open(dumps.site.url + ADMIN)
        sysadmin.click(f'button[aria-label="Dump now: {BUDGET}"]')
        assert "was asked for" in sysadmin.text(".flash-messages .alert")
        assert "asked for" in sysadmin.text(f'[data-live="state-{dumps.ids[BUDGET]}"]')
        # Back to where it was done: in this language, with what was asked for, and nowhere else.
        sysadmin.open(f"{dumps.site.url}/de{ADMIN}?q=Budget&sort=rows+desc&came_from=https://example.org/")
        sysadmin.click('form[action$="/datastore-dumps/request"] button')
        eventually(lambda: "came_from" not in sysadmin.url)
        path, _, query = sysadmin.url.removeprefix(dumps.site.url).partition("?")
        assert path == f"/de{ADMIN}"
        assert dict(parse_qsl(query)) == {"q": "Budget", "sort": "rows desc"}
    finally:
        sysadmin.devtools("Emulation.setScriptExecutionDisabled", value=False)


def test_narrow(sysadmin: Browser, dumps: DumpsPortal) -> None:
    """Nothing of ours is wider than a telephone, and it still is a table."""
    dumps.fail(STATIONS, "The bucket does not answer: " + "a-long-host-name." * 9)
    dumps.lease(COUNTS, 120_000, 420_000)
    sysadmin.resize(375, 800)
    sysadmin.open(dumps.site.url + ADMIN)
    widest = sysadmin.run(
        "return Math.max(...Array.from(document.querySelectorAll('.primary *')).filter("
        "e => !e.closest('thead')).map(e => e.getBoundingClientRect().right))"
    )
    assert widest <= 375
    assert sysadmin.count(".datastore-dumper-table[role=table] [role=row] [role=cell]") == 6 * 7
    assert sysadmin.violations(".primary") == []


def test_sysadmins_only(visitor: Browser, dumps: DumpsPortal) -> None:
    for name in ("", "stranger", "member", "editor"):
        headers = {"Authorization": dumps.tokens[name]} if name else {}
        for method, path in (("GET", ADMIN), ("POST", f"{ADMIN}/request")):
            response = dumps.site.http.request(method, dumps.site.url + path, headers=headers, redirect=False)
            assert response.status == 403 or (method == "POST" and response.status == 400), (name, method)
    log_in(visitor, dumps, "editor")
    visitor.open(dumps.site.url + ADMIN)
    assert visitor.count(".datastore-dumper-table") == 0
    assert "403" in visitor.run("return document.title + document.body.textContent")


def test_a_request_needs_the_forms_token(sysadmin: Browser, dumps: DumpsPortal) -> None:
    """As every form of that release."""
    sysadmin.open(dumps.site.url + ADMIN)
    status = sysadmin.run(
        "const request = new XMLHttpRequest(); request.open('POST', arguments[0], false); "
        "request.setRequestHeader('Content-Type', 'application/x-www-form-urlencoded'); "
        "request.send('resource_id=' + arguments[1]); return request.status",
        f"{ADMIN}/request",
        dumps.ids[BUDGET],
    )
    assert status == 400
    assert dumps.sql("SELECT count(*) FROM datastore_dumper.resource WHERE requested_at IS NOT NULL") == [(0,)]


def test_without_our_schema_the_page_says_so(sysadmin: Browser, dumps: DumpsPortal) -> None:
    dumps.sql("ALTER SCHEMA datastore_dumper RENAME TO elsewhere")
    try:
        sysadmin.open(dumps.site.url + ADMIN)
        assert "cannot tell now" in sysadmin.text(".primary .alert-danger")
        assert sysadmin.violations(".primary") == []
    finally:
        dumps.sql("ALTER SCHEMA elsewhere RENAME TO datastore_dumper")
