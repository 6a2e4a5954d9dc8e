"""Reads CHANGELOG.md, and says whether a tag may be released: `python -m tests.support.changelog v1.2.3`."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from datastore_dumper import __version__

CHANGELOG = Path(__file__).resolve().parents[2] / "CHANGELOG.md"
UNRELEASED = "Unreleased"
_HEADING = re.compile(r"^## (.*)$", re.MULTILINE)
_RELEASE = re.compile(r"(\d+\.\d+\.\d+) \((\d{4}-\d{2}-\d{2})\)")


@dataclass(frozen=True)
class Section:
    """What one version changed, or the next one will."""

    version: str
    """`1.2.3`, or `Unreleased`."""
    day: date | None
    text: str


def sections(changelog: str) -> list[Section]:
    """All of them, the newest first. Raises `ValueError` for a heading that is neither."""
    _, *pieces = _HEADING.split(changelog)
    found = []
    for heading, text in zip(pieces[::2], pieces[1::2], strict=True):
        match = _RELEASE.fullmatch(heading)
        if heading == UNRELEASED:
            found.append(Section(heading, None, text.strip()))
        elif match:
            found.append(Section(match[1], date.fromisoformat(match[2]), text.strip()))
        else:
            raise ValueError(f"'## {heading}' is neither '## {UNRELEASED}' nor '## 1.2.3 (2026-03-31)'")
    return found


def obstacle(tag: str, version: str, changelog: str) -> str | None:
    """Why a tag is not to be released, in a sentence; None if it may be."""
    if tag != f"v{version}":
        return f"the tag is {tag}, but the version of the program is {version}"
    newest = sections(changelog)[0]
    if newest.version != version:
        return f"the newest section of the changelog is {newest.version}, not {version}"
    if not newest.text:
        return f"the changelog says nothing of {version}"
    return None


if __name__ == "__main__":
    sys.exit(obstacle(sys.argv[1], __version__, CHANGELOG.read_text(encoding="utf-8")))
