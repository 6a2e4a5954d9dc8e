"""The site that `make docs` builds: whole, for everybody, and with nothing from elsewhere."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from docs.hooks import DOCS
from tests.support.browser import headless_chromium

# Elements whose address is fetched when the page is shown.
_FETCHED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href", "object": "data"}
_LINK_KINDS = {"stylesheet", "icon", "preload", "preconnect", "dns-prefetch", "modulepreload"}


class _Page(HTMLParser):
    """Addresses and anchors of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: set[str] = set()
        self.fetched: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.add(values["href"])
        address = values.get(_FETCHED.get(tag, ""))
        if address and (tag != "link" or _LINK_KINDS & set(values.get("rel", "").split())):
            self.fetched.add(address)


@pytest.fixture(scope="module")
def site(request: pytest.FixtureRequest) -> Path:
    directory = request.config.getoption("--site")
    if directory is None:
        pytest.skip("the site is built by `make docs`")
    return Path(directory).resolve()


@pytest.fixture(scope="module")
def built(site: Path) -> dict[Path, _Page]:
    return {path: _Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}


def test_every_page_is_there(site: Path, built: dict[Path, _Page]) -> None:
    sources = {page.relative_to(DOCS).with_suffix(".html") for page in DOCS.rglob("*.md")}
    assert {site / page for page in sources} - set(built) == set()


def test_every_link_and_anchor(site: Path, built: dict[Path, _Page]) -> None:
    broken = []
    for path, page in built.items():
        if path.name == "404.html":  # made for the root of a server
            continue
        for link in page.links | page.fetched:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            known = built[target].anchors if target in built else set()
            lost = not target.is_relative_to(site) or not target.is_file()
            if lost or (parts.fragment and target in built and unquote(parts.fragment) not in known):
                broken.append(f"{path.relative_to(site)}: {link}")
    assert broken == []


def test_nothing_comes_from_elsewhere(site: Path, built: dict[Path, _Page]) -> None:
    fetched = {address for page in built.values() for address in page.fetched}
    assert {address for address in fetched if urlsplit(address).netloc} == set()
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert "@import" not in styles
    assert "url(http" not in styles
    assert "url(//" not in styles


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    handler = functools.partial(_Quiet, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_it_is_for_everybody(address: str, tmp_path: Path) -> None:
    """What the project writes; the theme around it is not ours to mend."""
    with headless_chromium(tmp_path) as browser:
        for page in ("index", "explanation/architecture", "reference/benchmarks", "how-to/choose-formats"):
            browser.open(f"{address}/{page}.html")
            # Tables in Markdown must have a heading for each column, even for one that needs none.
            found = [each for each in browser.violations("article") if each.rule != "empty-table-header"]
            assert found == [], page
            loaded = browser.run("return performance.getEntriesByType('resource').map(e => new URL(e.name).origin)")
            assert set(loaded) == {address}
            assert browser.run("return document.documentElement.scrollWidth <= window.innerWidth")
