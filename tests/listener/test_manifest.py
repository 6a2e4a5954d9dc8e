"""Manifests: what is written is read back, what does not add up is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datastore_dumper.errors import DumperError
from datastore_dumper.manifest import Manifest, make_manifest, manifest_from_json, sha256_of
from datastore_dumper.spool import SegmentFile


def made_of(head: bytes, segments: list[tuple[int, bytes]], tail: bytes, joiner: bytes = b"") -> Manifest:
    files = [
        SegmentFile(number, number, Path(), rows, len(data), sha256_of(data))
        for number, (rows, data) in enumerate(segments)
    ]
    return make_manifest(head, files, joiner, tail)


segment_lists = st.lists(st.tuples(st.integers(0, 10**9), st.binary(max_size=40)), max_size=6)


@given(st.binary(max_size=20), segment_lists, st.binary(max_size=20), st.sampled_from([b"", b","]))
def test_json_round_trip(head: bytes, segments: list[tuple[int, bytes]], tail: bytes, joiner: bytes) -> None:
    manifest = made_of(head, segments, tail, joiner)
    file = head + joiner.join(data for _, data in segments if data) + tail
    assert manifest_from_json(json.loads(json.dumps(manifest.to_json())), manifest.length) == manifest
    assert manifest.length == len(file)
    for placed, (_, data) in zip(manifest.segments, segments, strict=True):
        assert file[placed.offset : placed.offset + placed.length] == data
    assert manifest.rows == sum(rows for rows, _ in segments)


@given(segment_lists, segment_lists)
def test_equal_digests_mean_equal_bytes(one: list[tuple[int, bytes]], other: list[tuple[int, bytes]]) -> None:
    if made_of(b"h", one, b"").digest == made_of(b"h", other, b"").digest:
        assert b"".join(data for _, data in one) == b"".join(data for _, data in other)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.pop("segments"),
        lambda data: data.update(version=99),
        lambda data: data.update(tail_length=1),
        lambda data: data["segments"][1].update(offset=1),
        lambda data: data["segments"][0].update(length=-1),
        lambda data: data["segments"][0].pop("sha256"),
        lambda data: data.update(head_length="many"),
    ],
)
def test_damage_is_refused(damage) -> None:
    data = made_of(b"head", [(1, b"a\n"), (2, b"b\nc\n")], b"").to_json()
    data["segments"] = [dict(segment) for segment in data["segments"]]
    damage(data)
    with pytest.raises(DumperError, match=r"anifest"):
        manifest_from_json(data, 10)
