"""How numbers of things are said."""

from __future__ import annotations


def counted(count: int, noun: str, plural: str = "") -> str:
    """`1 table`, `20,000 tables`. The plural has an s unless one is given."""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"
