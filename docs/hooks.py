"""What the site has beyond docs/: the navigation by kinds of pages, and copies of the project's files that pages link to.

MkDocs calls the functions named on_*; mkdocs.yml names this file.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from posixpath import normpath
from typing import Any

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
# Kinds of pages (Diátaxis), in the order in which a newcomer needs them.
KINDS = {"Tutorial": "tutorial", "How to": "how-to", "Reference": "reference", "Explanation": "explanation"}
_COPIES = "project"
_LINK = re.compile(r"(\]\()([^)\s#]+)((?:#[^)\s]*)?\))")


def slug(text: str, separator: str) -> str:
    """A heading's anchor, as on GitHub: links are right in both places."""
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", separator)


def title(page: Path) -> str:
    """Its first heading."""
    match = re.search(r"^# (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    if match is None:
        raise ValueError(f"{page} has no heading of the first level")
    return match[1].replace("`", "")


def navigation() -> list[dict[str, Any]]:
    """All pages, each kind in the order of titles."""
    kinds = [
        {
            name: [
                {title(page): page.relative_to(DOCS).as_posix()} for page in sorted((DOCS / at).glob("*.md"), key=title)
            ]
        }
        for name, at in KINDS.items()
    ]
    return [{"Start": "index.md"}, *kinds, {"Decisions": "decisions.md"}, {"Changes": f"{_COPIES}/CHANGELOG.md"}]


def outside(page: str, target: str) -> PurePosixPath | None:
    """The project's file that a link of a page leads to, relative to the checkout, if that is not below docs/."""
    if re.match(r"[a-z]+:|/", target):
        return None
    path = normpath(f"docs/{PurePosixPath(page).parent}/{target}")
    return None if path.startswith(("docs/", "../")) or not (ROOT / path).is_file() else PurePosixPath(path)


def copied(page: str) -> set[PurePosixPath]:
    """The project's files beside docs/ that a page links to."""
    found = {outside(page, match[2]) for match in _LINK.finditer((DOCS / page).read_text(encoding="utf-8"))}
    return {path for path in found if path is not None}


def on_config(config: Any) -> Any:
    config.nav = navigation()
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the copies, and the changelog as a page."""
    from mkdocs.structure.files import File

    pages = [page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")]
    for path in sorted({PurePosixPath("CHANGELOG.md")}.union(*map(copied, pages))):
        files.append(File.generated(config, f"{_COPIES}/{path}", abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let links to such files lead to the copies."""
    here = page.file.src_uri
    up = "../" * here.count("/")

    def moved(match: re.Match[str]) -> str:
        path = outside(here, match[2])
        return match[0] if path is None else f"{match[1]}{up}{_COPIES}/{path}{match[3]}"

    return markdown if here.startswith(f"{_COPIES}/") else _LINK.sub(moved, markdown)
