from __future__ import annotations

import re
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datastore_dumper.storage.disposition import clean_filename, content_disposition


@pytest.mark.parametrize(
    ("filename", "header"),
    [
        ("8c2ac8f0-6d0e.csv", 'attachment; filename="8c2ac8f0-6d0e.csv"'),
        ("täble.csv", "attachment; filename=\"table.csv\"; filename*=UTF-8''t%C3%A4ble.csv"),
        ("日本.csv", "attachment; filename=\"__.csv\"; filename*=UTF-8''%E6%97%A5%E6%9C%AC.csv"),
        ("a (1).csv", "attachment; filename=\"a _1_.csv\"; filename*=UTF-8''a%20%281%29.csv"),
        ("50%.csv", "attachment; filename=\"50_.csv\"; filename*=UTF-8''50%25.csv"),
        ("a\r\nSet-Cookie: x=1.csv", "attachment; filename=\"aSet-Cookie_ x=1.csv\""),
        ('a"; filename="b.exe', "attachment; filename=\"a__ filename=_b.exe\"; filename*=UTF-8''a_%3B%20filename%3D_b.exe"),
        ("../../etc/passwd", 'attachment; filename="_.._etc_passwd"'),
        ("fdp.\u202exslx.csv", 'attachment; filename="fdp.xslx.csv"'),
        ("\x00\u200b .. ", 'attachment; filename="download"'),
    ],
)  # fmt: skip
def test_by_example(filename: str, header: str) -> None:
    assert content_disposition(filename) == header


@given(st.text())
def test_no_name_breaks_out_of_the_header(filename: str) -> None:
    header = content_disposition(filename)
    assert re.fullmatch(
        r"""attachment; filename="[A-Za-z0-9 !#$&+,.=@^_~-]+"(; filename\*=UTF-8''[A-Za-z0-9%._~-]+)?""", header
    )


@given(st.text())
def test_a_reader_gets_the_clean_name_back(filename: str) -> None:
    plain, _, extended = content_disposition(filename).partition("; filename*=UTF-8''")
    read = unquote(extended) if extended else plain.partition('filename="')[2][:-1]
    assert read == clean_filename(filename)
    assert len(clean_filename(filename).encode()) <= 255


def test_a_long_name_keeps_its_extension() -> None:
    assert clean_filename("表" * 200 + ".csv") == "表" * 83 + ".csv"
    assert clean_filename("." + "x" * 300) == "x" * 255
    assert clean_filename("a." + "x" * 300) == ("a." + "x" * 300)[:255]
