"""Takes the pictures of CKAN's pages with the plugin, in a real CKAN and a real browser: `make screenshots`."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.ckan.dumps_portal import AIR, BUDGET, COUNTS, PASSWORD, STATIONS, DumpsPortal, dumps_portal
from tests.support.browser import ENTER, Browser, headless_chromium
from tests.support.ckan_env import ckan_environment
from tests.support.ckan_site import CkanPlatform
from tests.support.postgres import running_server
from tests.support.waiting import eventually

IMAGES = Path(__file__).parent
MENU = "#dropdownDownloadFormat"


def main() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="datastore-dumper-screenshots-") as directory,
        running_server() as postgres,
        CkanPlatform.start(ckan_environment(), postgres) as platform,
        dumps_portal(platform, Path(directory)) as portal,
        headless_chromium(Path(directory)) as browser,
    ):
        resource_page(portal, browser)
        admin_page(portal, browser)


def resource_page(portal: DumpsPortal, browser: Browser) -> None:
    browser.resize(1280)
    browser.open(f"{portal.site.url}/dataset/cycle-traffic/resource/{portal.ids[COUNTS]}")
    _open_menu(browser)
    browser.screenshot(IMAGES / "resource-page.png", height=560)
    browser.resize(375)
    browser.reload()
    _open_menu(browser)
    browser.screenshot(IMAGES / "resource-page-narrow.png", height=640, below=".actions")
    portal.change(AIR)
    browser.resize(1280)
    browser.open(f"{portal.site.url}/dataset/air-quality/resource/{portal.ids[AIR]}")
    _open_menu(browser)
    browser.screenshot(IMAGES / "resource-page-preparing.png", height=560)


def admin_page(portal: DumpsPortal, browser: Browser) -> None:
    browser.open(f"{portal.site.url}/user/login")
    browser.type("#field-login", "root")
    browser.type("#field-password", PASSWORD + ENTER)
    eventually(lambda: "/user/login" not in browser.url, timeout=30)
    with portal.dumper.running():
        portal.change(BUDGET)
        portal.fail(STATIONS, "The bucket ckan-dumps does not answer: connection refused")
        portal.lease(COUNTS, 170_000, 420_000)
        browser.open(f"{portal.site.url}/ckan-admin/datastore-dumps")
        browser.screenshot(IMAGES / "admin-page.png")
        browser.resize(375)
        browser.reload()
        browser.screenshot(IMAGES / "admin-page-narrow.png", height=1400)


def _open_menu(browser: Browser) -> None:
    browser.click(MENU)
    eventually(lambda: browser.attribute(MENU, "aria-expanded") == "true")


if __name__ == "__main__":
    main()
