"""Where our encoders and decoders stand in for CKAN's libraries: equal on whatever Hypothesis can think of."""

from __future__ import annotations

import io
import json

import pytest
import simplejson
from hypothesis import given
from hypothesis import strategies as st

from datastore_dumper.formats import Compat
from datastore_dumper.formats.json import _ENCODER
from datastore_dumper.formats.records import _decoder
from datastore_dumper.formats.xml import element_names, row_writer
from tests.formats.ckan_dump import write_xml_row, xml_names

# Half a surrogate pair too: CKAN 2.10 decodes it.
TEXT = st.text(st.characters(categories=["L", "M", "N", "P", "S", "Z", "C"]), max_size=12) | st.text(
    st.sampled_from("<>&\"'\r\n\t\\/\x00\x01\x7f\u2028\ud800\udc00a{}")
)
NUMBER = st.integers() | st.floats() | st.integers(-(10**60), 10**60)
VALUE = st.recursive(
    st.none() | st.booleans() | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=15,
)


@given(VALUE)
def test_json_is_encoded_like_simplejson_does(value: object) -> None:
    theirs = simplejson.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=True)
    assert _ENCODER.encode(value) == theirs


@given(VALUE, st.sampled_from([None, 1]), st.booleans())
def test_ckan_2_10_decodes_like_simplejson_does(value: object, indent: int | None, ascii_only: bool) -> None:
    text = json.dumps([value], indent=indent, ensure_ascii=ascii_only).encode(errors="replace")
    # repr tells -0.0 from 0.0 and 1 from 1.0, and NaN equals itself.
    assert repr(_decoder(Compat("2.10"))(text)) == repr(simplejson.loads(text.decode(), allow_nan=True))


NAME = st.text(st.sampled_from("abX1_ .-é{}<:") | st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
RELEASE = st.sampled_from([Compat("2.10"), Compat("2.12")])


@given(st.lists(NAME, unique=True, max_size=8).map(lambda names: [*names, "XML", "%", "1"]))
def test_names_of_elements(columns: list[str]) -> None:
    unique = list(dict.fromkeys(columns))
    names = element_names(unique)
    assert names == list(xml_names(unique, Compat("2.12")).values())
    assert len(set(names)) == len(names)


@given(st.data(), RELEASE)
def test_xml_is_written_like_elementtree_does(data: st.DataObject, compat: Compat) -> None:
    columns = data.draw(st.lists(NAME, unique=True, max_size=4))
    record = [data.draw(st.integers() | TEXT), *(data.draw(VALUE) for _ in columns)]
    names = xml_names(columns, compat).values()
    theirs = io.BytesIO()
    try:
        write_xml_row(theirs, record[0], zip(names, record[1:], strict=True))
    except (TypeError, ValueError) as refused:
        with pytest.raises(type(refused)):
            row_writer(["_id", *columns], compat)(record)
        return
    ours = row_writer(["_id", *columns], compat)(record).encode(errors="xmlcharrefreplace")
    assert ours == theirs.getvalue()
