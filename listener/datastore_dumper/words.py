"""How things are said: numbers of them, and names that may have anything in them."""

from __future__ import annotations


def counted(count: int, noun: str, plural: str = "") -> str:
    """`1 table`, `20,000 tables`. The plural has an s unless one is given."""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def printable(text: str) -> str:
    """The text without what could break or forge a line, or move the cursor of a terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)
