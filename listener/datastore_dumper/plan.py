"""Which parts a new file is made of: a pure function of what was published and what changed since.

Each format's file is one run of segments. At present every plan is one fresh segment over the whole table; the parts, the
manifest and the storage already speak of reuse.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fresh:
    """Read these buckets from the table. None: no bound on that side."""

    first: int | None
    last: int | None


@dataclass(frozen=True)
class Reuse:
    """Take these bytes of the published object."""

    offset: int
    length: int


PlannedPart = Fresh | Reuse


def full_plan() -> tuple[Fresh, ...]:
    """The whole table, read anew."""
    return (Fresh(None, None),)
