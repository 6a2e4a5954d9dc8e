"""How things are said: numbers of them, sizes, and names that may have anything in them."""

from __future__ import annotations

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_STEP = 1024


def counted(count: int, noun: str, plural: str = "") -> str:
    """`1 table`, `20,000 tables`. The plural has an s unless one is given."""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def printable(text: str) -> str:
    """The text without what could break or forge a line, or move the cursor of a terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)


def shown_bytes(count: float) -> str:
    """`3.4 MiB`; whole numbers of bytes."""
    for unit in _UNITS[:-1]:
        if count < _STEP:
            return f"{count:.0f} {unit}" if unit == _UNITS[0] else f"{count:.1f} {unit}"
        count /= _STEP
    return f"{count:.1f} {_UNITS[-1]}"
