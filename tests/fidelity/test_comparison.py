"""A difference is found wherever it is, and told so that its cause can be found."""

from __future__ import annotations

import pytest

from tests.fidelity.comparison import difference

CSV = b"_id,a b,c\r\n1,x,y\n2,x,\n"
JSON = b'{\n  "fields": [{"id":"_id"},{"id":"c"}],\n  "records": [\n    [1,1.5]\n]}\n'
XML = b'<data>\n<row _id="1"><a>x</a><b>y</b></row>\n</data>\n'


def test_equal_files_have_none() -> None:
    assert difference(CSV, CSV, None, "csv") is None


@pytest.mark.parametrize(
    ("format_name", "ckans", "ours", "where"),
    [
        ("csv", CSV, CSV.replace(b"2,x", b"2,z"), "at byte 19 of 22 (CKAN) and 22 (ours), line 3, column 'a b', row 2"),
        (
            "tsv",
            CSV.replace(b",", b"\t"),
            CSV.replace(b",", b"\t") + b"3\t\t\n",
            "at byte 22 of 22 (CKAN) and 26 (ours)",
        ),
        ("json", JSON, JSON.replace(b"1.5", b"1.50"), "at byte 66 of 71 (CKAN) and 72 (ours), line 4"),
        ("json", JSON, JSON.replace(b"1.5", b'"1.5"'), "line 4, column 'c', row 2"),
        ("xml-bom", XML, XML.replace(b">y<", b">z<"), "in element 'b'"),
        ("csv-bom", b"\xef\xbb\xbf" + CSV, CSV, "at byte 0"),
    ],
)
def test_where_it_is(format_name: str, ckans: bytes, ours: bytes, where: str) -> None:
    told = difference(ckans, ours, None, format_name)
    assert told is not None
    assert where in told


def test_a_file_that_we_have_not_is_one() -> None:
    assert difference(CSV, None, "the reason", "csv") == "  CKAN sends a file, we have none: the reason"
