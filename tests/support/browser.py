"""A headless Chromium for tests, by the WebDriver protocol (W3C, "WebDriver"): Debian's packages chromium and chromium-driver.

Nothing but this machine can be reached from it. Where the programs are missing tests are skipped, but fail in CI.
"""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import urllib3

from tests.support.waiting import eventually

AXE = resources.files("axe_playwright_python") / "axe.min.js"
ENTER, DOWN = "\ue007", "\ue015"
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # WebDriver, section 12.1
_OPTIONS = (
    "--headless=new",
    "--no-sandbox",  # root may not have one
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--lang=en-US",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


class BrowserError(Exception):
    """What WebDriver answered."""


@dataclass(frozen=True)
class Violation:
    """A rule of axe that a page breaks, and where."""

    rule: str
    help: str
    places: tuple[str, ...]


@dataclass
class Browser:
    """One window."""

    session: str
    http: urllib3.PoolManager = field(
        default_factory=lambda: urllib3.PoolManager(timeout=urllib3.Timeout(120), retries=False), repr=False
    )

    def open(self, url: str) -> None:
        self._post("url", url=url)

    def reload(self) -> None:
        self._post("refresh")

    @property
    def url(self) -> str:
        return str(self._call("GET", "url"))

    def run(self, script: str, *arguments: object) -> Any:
        """The value that a script returns."""
        return self._post("execute/sync", script=script, args=list(arguments))

    def text(self, selector: str) -> str:
        """What the first element shows, in one line."""
        return " ".join(str(self._call("GET", f"element/{self._find(selector)}/text")).split())

    def texts(self, selector: str) -> list[str]:
        """What all of them hold, each in one line."""
        script = "return Array.from(document.querySelectorAll(arguments[0]), e => e.textContent)"
        return [" ".join(text.split()) for text in self.run(script, selector)]

    def count(self, selector: str) -> int:
        return int(self.run("return document.querySelectorAll(arguments[0]).length", selector))

    def attribute(self, selector: str, name: str) -> str | None:
        value: str | None = self.run(
            "return document.querySelector(arguments[0]).getAttribute(arguments[1])", selector, name
        )
        return value

    def click(self, selector: str) -> None:
        # CKAN's pages scroll smoothly, and a click on what moves fails.
        self.run(
            "document.querySelector(arguments[0]).scrollIntoView({block: 'center', behavior: 'instant'})", selector
        )
        self._post(f"element/{self._find(selector)}/click")

    def type(self, selector: str, text: str) -> None:
        self._post(f"element/{self._find(selector)}/value", text=text)

    def press(self, key: str) -> None:
        """On the keyboard, for whatever has the focus."""
        actions = [{"type": kind, "value": key} for kind in ("keyDown", "keyUp")]
        self._post("actions", actions=[{"type": "key", "id": "keyboard", "actions": actions}])

    def wait_for(self, selector: str) -> None:
        eventually(lambda: self.count(selector) > 0)

    def resize(self, width: int, height: int = 900) -> None:
        """The page's own size in pixels, which may be less than a window's."""
        self.devtools(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def screenshot(self, path: Path, height: int | None = None, below: str = "html") -> None:
        """The page as PNG: all of it, or `height` pixels from the top of an element on."""
        width, whole, top = self.run(
            "const e = document.documentElement; return [e.clientWidth, e.scrollHeight, "
            "window.scrollY + document.querySelector(arguments[0]).getBoundingClientRect().top]",
            below,
        )
        clip = {"x": 0, "y": top, "width": width, "height": min(height or whole, whole - top), "scale": 1}
        picture = self.devtools("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(picture["data"]))

    def devtools(self, command: str, **parameters: object) -> Any:
        """A command of the Chrome DevTools protocol."""
        return self._post("goog/cdp/execute", cmd=command, params=parameters)

    def violations(self, selector: str | None = None) -> list[Violation]:
        """Whatever axe finds on the page or in a part of it: all of WCAG 2.2 AA and axe's best practices."""
        self.run(AXE.read_text(encoding="utf-8"))
        script = """
            const [where, done] = arguments;
            axe.run(where ? {include: [[where]]} : document).then(
                result => done(result.violations.map(v => [v.id, v.help, v.nodes.map(n => n.target.join(" ") + ": " + n.html)])),
                error => done(String(error)));
        """
        found = self._post("execute/async", script=script, args=[selector])
        if isinstance(found, str):
            raise BrowserError(found)
        return [Violation(rule, text, tuple(places)) for rule, text, places in found]

    def _find(self, selector: str) -> str:
        return str(self._post("element", using="css selector", value=selector)[_ELEMENT])

    def _post(self, path: str, **body: object) -> Any:
        return self._call("POST", path, **body)

    def _call(self, method: str, path: str, **body: object) -> Any:
        response = self.http.request(
            method, f"{self.session}/{path}".rstrip("/"), json=body if method == "POST" else None
        )
        value = response.json()["value"]
        if response.status != 200:
            raise BrowserError(f"{method} {path}: {value['error']}: {value['message']}")
        return value


@contextmanager
def headless_chromium(directory: Path) -> Iterator[Browser]:
    """A new browser with an empty profile in `directory`."""
    chromium, driver = _program("chromium"), _program("chromedriver")
    log = directory / "chromedriver.log"
    with subprocess.Popen(
        [driver, "--port=0", f"--log-path={log}"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            assert process.stdout is not None
            ports = (re.search(r"started successfully on port (\d+)", line) for line in process.stdout)
            port = next((found[1] for found in ports if found), None)
            assert port is not None, f"chromedriver ended: {log.read_text() if log.exists() else ''}"
            root = f"http://127.0.0.1:{port}/session"
            options = {"binary": chromium, "args": [*_OPTIONS, f"--user-data-dir={directory / 'profile'}"]}
            # The driver waits so long until an element is there and can be typed into (WebDriver, 9.1 and 12.5.3).
            timeouts = {"implicit": 20_000, "script": 100_000}
            wanted = {"alwaysMatch": {"browserName": "chrome", "timeouts": timeouts, "goog:chromeOptions": options}}
            with urllib3.PoolManager(timeout=urllib3.Timeout(120), retries=False) as http:
                value = http.request("POST", root, json={"capabilities": wanted}).json()["value"]
            assert "sessionId" in value, value
            browser = Browser(f"{root}/{value['sessionId']}")
            try:
                yield browser
            finally:
                browser._call("DELETE", "")
        finally:
            process.terminate()
            process.wait(90)


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        reason = f"no {name} on PATH: install Debian's packages chromium and chromium-driver"
        if os.environ.get("CI") == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return found
