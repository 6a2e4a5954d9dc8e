"""Which parts a new file is made of: a pure function of what was published and what changed since.

A file is a run of segments over runs of buckets (`_id >> 13`). Segments that no change touched are reused as they are in
the published object, neighbours in one piece; the others are read anew. Segments whose size has drifted are put right when
they are read anyway: one that grew is cut, small neighbours are read together.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

from datastore_dumper.manifest import Manifest, Segment

BUCKET_BITS = 13
"""As in the triggers: a bucket is 8192 ids."""

WHOLE_TABLE = -1
"""The bucket that stands for all of them; ids from -8192 to -1 share it."""

# A dirty segment shorter than this share of the target is read together with a short neighbour, so that their number does
# not grow for ever.
_SHORT = 0.25


@dataclass(frozen=True)
class Fresh:
    """Read these buckets from the table, both ends included. None: no bound on that side.

    `expected_bytes` and `expected_rows` are what the former segments held (0: unknown), for cutting it well.
    """

    first: int | None
    last: int | None
    expected_bytes: int = 0
    expected_rows: int = 0


@dataclass(frozen=True)
class Reuse:
    """Take these segments from the published object, with the joiners between them."""

    segments: tuple[Segment, ...]

    @property
    def offset(self) -> int:
        """Bytes from the start of the published object."""
        return next((segment.offset for segment in self.segments if segment.length), self.segments[0].offset)

    @property
    def length(self) -> int:
        """Bytes, joiners included."""
        return (
            max((segment.offset + segment.length for segment in self.segments if segment.length), default=self.offset)
            - self.offset
        )


PlannedPart = Fresh | Reuse

FULL: tuple[PlannedPart, ...] = (Fresh(None, None),)
"""The whole table, read anew."""


def make_plan(published: Manifest | None, dirty: Iterable[int], target_bytes: int) -> tuple[PlannedPart, ...]:
    """The parts of the new file in order, over all buckets from minus to plus infinity.

    `published` is the manifest of a file of the same table, format and columns, `dirty` the buckets that changed since,
    `target_bytes` how long a segment should be.
    Without a manifest, or if the whole table changed, everything is fresh.
    """
    touched = sorted(set(dirty))
    if published is None or not published.segments or WHOLE_TABLE in touched:
        return FULL
    is_dirty = _dirty_segments(published.segments, touched)
    _take_short_neighbours(published.segments, is_dirty, int(target_bytes * _SHORT))
    return tuple(_parts(published.segments, is_dirty, target_bytes))


def _dirty_segments(segments: tuple[Segment, ...], touched: list[int]) -> list[bool]:
    """`touched` is in order."""

    def is_dirty(segment: Segment) -> bool:
        at = 0 if segment.first is None else bisect_left(touched, segment.first)
        return at < len(touched) and (segment.last is None or touched[at] <= segment.last)

    return [is_dirty(segment) for segment in segments]


def _take_short_neighbours(segments: tuple[Segment, ...], is_dirty: list[bool], short_bytes: int) -> None:
    """Where a dirty segment is short, its short neighbours become dirty too: together they are one."""
    for index, segment in enumerate(segments):
        if not is_dirty[index] or segment.length >= short_bytes:
            continue
        for neighbour in (index - 1, index + 1):
            if 0 <= neighbour < len(segments) and segments[neighbour].length < short_bytes:
                is_dirty[neighbour] = True


def _parts(segments: tuple[Segment, ...], is_dirty: list[bool], target_bytes: int) -> Iterator[PlannedPart]:
    for dirty, run in groupby(zip(segments, is_dirty, strict=True), key=lambda pair: pair[1]):
        members = tuple(segment for segment, _ in run)
        if dirty:
            yield from _joined(members, target_bytes)
        else:
            yield Reuse(members)


def _joined(members: tuple[Segment, ...], target_bytes: int) -> Iterator[Fresh]:
    """One part for each segment, short neighbours joined: boundaries stay where they can."""
    joined: list[Fresh] = []
    for member in members:
        part = Fresh(member.first, member.last, member.length, member.rows)
        before = joined[-1] if joined else None
        short = target_bytes * _SHORT
        if (
            before is not None
            and min(before.expected_bytes, part.expected_bytes) < short
            and (before.expected_bytes + part.expected_bytes <= target_bytes)
        ):
            joined[-1] = Fresh(
                before.first,
                part.last,
                before.expected_bytes + part.expected_bytes,
                before.expected_rows + part.expected_rows,
            )
        else:
            joined.append(part)
    return iter(joined)
