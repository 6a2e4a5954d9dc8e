"""Reads the documentation: its links, its anchors, and the commands that it tells people to run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from docs.hooks import slug

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(r"^( *)(```+)(\w*)\n(.*?)^\1\2 *$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#{1,6} +(.+?)(?: +#+)?$", re.MULTILINE)
_LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^)\s]+)\)")
_SPAN = re.compile(r"`([^`]+)`")
_SHELLS = {"sh", "bash", "console", ""}
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=.*", re.DOTALL)
# What may stand before a command without being it.
_PREFIXES = (["runuser", "-u", "datastore-dumper", "--"], ["sudo"], ["exec"], ["time"])


@dataclass(frozen=True)
class Command:
    """A command of a page."""

    page: Path
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}: {' '.join(self.words)}"


def pages() -> list[Path]:
    """All that people read."""
    return [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def links(page: Path) -> Iterator[str]:
    """Where its links and images lead, except in code."""
    text = _SPAN.sub("", _FENCE.sub("", page.read_text(encoding="utf-8")))
    yield from (match[1] for match in _LINK.finditer(text))


def anchors(page: Path) -> set[str]:
    """What can be linked to in it: its headings, as on GitHub and in the site."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    return {slug(re.sub(r"\[([^\]]*)\]\([^)]*\)|`", r"\1", match[1]), "-") for match in _HEADING.finditer(text)}


def blocks(page: Path, *languages: str) -> list[str]:
    """Its fenced blocks in these languages."""
    return [match[4] for match in _FENCE.finditer(page.read_text(encoding="utf-8")) if match[3] in languages]


def shell_lines(page: Path) -> Iterator[str]:
    """What its blocks tell people to type: in `console` after the prompt, elsewhere every line; continued ones in one."""
    for match in _FENCE.finditer(page.read_text(encoding="utf-8")):
        if match[3] not in _SHELLS:
            continue
        lines = match[4].replace("\\\n", " ").splitlines()
        typed = [
            line.strip().removeprefix("$ ") for line in lines if match[3] != "console" or line.strip().startswith("$ ")
        ]
        yield from (line for line in typed if line)


def commands(page: Path, *programs: str) -> Iterator[Command]:
    """Its commands of these programs, in blocks and in running text."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    spans = (match[1].replace("\n", " ") for match in _SPAN.finditer(text))
    for line in (*shell_lines(page), *spans):
        if not any(program in line for program in programs):
            continue
        for words in _simple_commands(line):
            if words and Path(words[0]).name in programs and len(words) > 1:
                yield Command(page, (Path(words[0]).name, *words[1:]))


def _simple_commands(line: str) -> Iterator[list[str]]:
    """The commands of a line of shell, without redirections and what stands before them."""
    try:
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.commenters = "#"
        lexer.whitespace_split = True
        tokens = [token.strip("[]") for token in lexer]  # in a usage line
    except ValueError:  # prose with an apostrophe
        return
    words: list[str] = []
    for token in [*tokens, ";"]:
        if re.fullmatch(r"[;|&()]+", token):
            yield _bare(words)
            words = []
        elif token != "OPTIONS":
            words.append(token)


def _bare(words: list[str]) -> list[str]:
    for mark in ("<", ">", ">>"):
        if mark in words:
            words = words[: words.index(mark)]
    while words and _ASSIGNMENT.fullmatch(words[0]):
        words = words[1:]
    for prefix in _PREFIXES:
        if words[: len(prefix)] == prefix:
            return _bare(words[len(prefix) :])
    return words
