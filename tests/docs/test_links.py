"""Every link of README and docs leads somewhere: pages, headings, pictures, files of the project."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs.hooks import DOCS, KINDS, navigation
from tests.support.pages import ROOT, anchors, links, pages


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in links(page):
        if link.startswith(("https://", "http://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.is_relative_to(ROOT) or not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_every_page_is_of_a_kind_and_in_the_navigation() -> None:
    there = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}
    shown: set[str] = set()
    for section in navigation():
        for content in section.values():
            shown |= {content} if isinstance(content, str) else {path for entry in content for path in entry.values()}
    assert there - shown == set(), f"put it into one of {list(KINDS.values())}"


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        reached.add(page)
        found = [(page.parent / link.partition("#")[0]).resolve() for link in links(page) if "://" not in link]
        waiting += [target for target in found if target.suffix == ".md" and target.exists() and target not in reached]
    assert set(DOCS.rglob("*.md")) - reached == set()
