"""The plan: whatever changed, its parts put together are the bytes of a full export; and little more is read than changed."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from datastore_dumper.manifest import Manifest, make_manifest, sha256_of
from datastore_dumper.plan import (
    BUCKET_BITS,
    FULL,
    WHOLE_TABLE,
    Fresh,
    PlannedPart,
    Reuse,
    make_plan,
)
from datastore_dumper.spool import SegmentFile

TARGET_BYTES = 32 << 20

Table = dict[int, bytes]

ids = st.one_of(st.integers(-3, 12), st.sampled_from([-(2**31), 2**20, 2**31, 2**62])).flatmap(
    lambda bucket: st.integers(0, 3).map(
        lambda offset: (bucket << BUCKET_BITS if abs(bucket) < 2**30 else bucket) + offset
    )
)
tables = st.dictionaries(ids, st.binary(min_size=1, max_size=6), max_size=25)
changes = st.dictionaries(ids, st.none() | st.binary(min_size=1, max_size=6), max_size=6)


def rows(table: Table, part: Fresh, joiner: bytes) -> bytes:
    return joiner.join(
        table[id_]
        for id_ in sorted(table)
        if (part.first is None or id_ >> BUCKET_BITS >= part.first)
        and (part.last is None or id_ >> BUCKET_BITS <= part.last)
    )


def bucket(id_: int) -> int:
    return id_ >> BUCKET_BITS


def export(table: Table, parts: list[Fresh], joiner: bytes) -> tuple[bytes, Manifest]:
    """A file of those segments, and its manifest."""
    bodies = [rows(table, part, joiner) for part in parts]
    files = [
        SegmentFile(part.first, part.last, Path(), body.count(b"") - 1, len(body), sha256_of(body))
        for part, body in zip(parts, bodies, strict=True)
    ]
    return b"HEAD" + joiner.join(filter(None, bodies)) + b"TAIL", make_manifest(b"HEAD", files, joiner, b"TAIL")


def cuts_to_parts(cuts: list[int]) -> list[Fresh]:
    bounds = sorted(set(cuts))
    firsts: list[int | None] = [None, *(cut + 1 for cut in bounds)]
    return [Fresh(first, last) for first, last in zip(firsts, [*bounds, None], strict=True)]


segmentations = st.lists(st.integers(-5, 15), max_size=6).map(cuts_to_parts)


def apply(plan: tuple[PlannedPart, ...], former: bytes, table: Table, joiner: bytes) -> bytes:
    bodies = [
        rows(table, part, joiner) if isinstance(part, Fresh) else former[part.offset : part.offset + part.length]
        for part in plan
    ]
    return b"HEAD" + joiner.join(filter(None, bodies)) + b"TAIL"


@settings(max_examples=400)
@given(tables, segmentations, changes, st.sampled_from([b"", b","]), st.integers(1, 100))
def test_any_plan_gives_the_bytes_of_a_full_export(
    before: Table, parts: list[Fresh], changed: dict[int, bytes | None], joiner: bytes, target: int
) -> None:
    former, manifest = export(before, parts, joiner)
    after = {id_: row for id_, row in {**before, **changed}.items() if row is not None}
    plan = make_plan(manifest, {bucket(id_) for id_ in changed}, target)
    expected, _ = export(after, [Fresh(None, None)], joiner)
    assert apply(plan, former, after, joiner) == expected


@given(tables, segmentations, st.sets(st.integers(-5, 15)))
def test_parts_cover_all_buckets_once_and_in_order(before: Table, parts: list[Fresh], dirty: set[int]) -> None:
    _, manifest = export(before, parts, b"")
    ranges = []
    for part in make_plan(manifest, dirty, TARGET_BYTES):
        members = part.segments if isinstance(part, Reuse) else (part,)
        ranges += [(member.first, member.last) for member in members]
    assert ranges[0][0] is None
    assert ranges[-1][1] is None
    assert all(last is not None and first == last + 1 for (_, last), (first, _) in pairwise(ranges))


def sized_manifest(lengths: list[int]) -> Manifest:
    """Segments of one bucket each with these lengths."""
    parts = cuts_to_parts(list(range(len(lengths) - 1)))
    files = [
        SegmentFile(part.first, part.last, Path(), 1, length, str(n))
        for n, (part, length) in enumerate(zip(parts, lengths, strict=True))
    ]
    return make_manifest(b"", files, b"", b"")


def test_one_changed_bucket_reads_one_segment() -> None:
    plan = make_plan(sized_manifest([TARGET_BYTES] * 100), {50}, TARGET_BYTES)
    assert [type(part) for part in plan] == [Reuse, Fresh, Reuse]
    fresh = plan[1]
    assert isinstance(fresh, Fresh)
    assert (fresh.first, fresh.last, fresh.expected_bytes) == (50, 50, TARGET_BYTES)


def test_short_neighbours_are_read_together() -> None:
    plan = make_plan(sized_manifest([TARGET_BYTES, 10, 10, 10, TARGET_BYTES]), {2}, TARGET_BYTES)
    assert [(part.first, part.last) for part in plan if isinstance(part, Fresh)] == [(1, 3)]
    assert make_plan(sized_manifest([TARGET_BYTES, TARGET_BYTES, 10]), {1}, TARGET_BYTES)[-1] == Reuse(
        sized_manifest([TARGET_BYTES, TARGET_BYTES, 10]).segments[2:]
    )


def test_nothing_changed_reads_nothing() -> None:
    (part,) = make_plan(sized_manifest([5, 6, 7]), set(), TARGET_BYTES)
    assert isinstance(part, Reuse)
    assert (part.offset, part.length) == (0, 18)


def test_the_whole_table_or_an_unknown_past_is_read_anew() -> None:
    assert make_plan(None, {1}, TARGET_BYTES) == FULL
    assert make_plan(sized_manifest([5]), {3, WHOLE_TABLE}, TARGET_BYTES) == FULL
