"""CKAN's formats, byte for byte, on a real Postgres: every type that CKAN can make, and every odd value of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import psycopg
import pytest
import simplejson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql
from psycopg.rows import TupleRow

from datastore_dumper.errors import UnsupportedValueError
from datastore_dumper.formats import Compat
from tests.formats.ckan_dump import ckan_dump
from tests.formats.made import made
from tests.support.datastore import create_table
from tests.support.postgres import ScratchDatabase

COMPATS = [
    pytest.param(compat, id=str(compat))
    for compat in (Compat("2.10"), Compat("2.11"), Compat("2.12"), Compat("2.12", ms_in_timestamp=False))
]
NAMES = ["csv", "csv-bom", "tsv", "tsv-bom", "json", "json-bom", "xml", "xml-bom"]

TEXTS = [
    "", " ", "null", "NULL", "\\N", "\\.", "a,b", 'say "hi"', "it's", "a\r\nb", "a\nb", "a\rb", "a\tb", "\x01",
    "\x01\x02\x1f\x7f",
    "\b\f\v\x1b", "\u2028\u2029", "\u0085\u00a0", "emoji \U0001f600", "e\u0301", "\u0301", "\ufeff", "\uffff",
    "</c>&amp;<![CDATA[", "]]>",
    "\\", "\\\\", "\\u0041", "C:\\new\\table", "/", "{}", "[]", "{", "'", '"', '""', "\U0010ffff", "x" * 10_000,
]  # fmt: skip
JSONS = [
    "null", "{}", "[]", '""', "1", "-0", "-0.0", "1.50", "1e2", "1E-7", "1e22", "123456789012345678901234567890", "0.1",
    "12345678901234567890.123456789", "true", '"\\u00e9\\/\\u2028\\u0001\\ud83d\\ude00"',
    '{"a": 1, "b" : [1, null, {"c": "d"}], "a": 2}',
    '{"&<>\\"\\t\\r\\n\\u0001": "&<>\\"\\t\\r\\n"}', '{"": {"": []}}', "\n[ 1 ,\r\n\t2 ]\n",
    '[[[[]]], {"k": {}}, [null], "", " "]',
    '"\\u0000"', '"caf\u00e9 \U0001f600"', '[true, false, null, 1.0, 1e16, 1e15]',
    '[100000000000000000.5, 5e-324, 1.7976931348623157e308]',
]  # fmt: skip
NUMBERS = ["0", "1", "-1", "2147483647", "-2147483648"]
VALUES: dict[str, list[str]] = {
    "text": TEXTS,
    "varchar(20)": ["", "short", "null"],
    "char(5)": ["", "ab", "abcde"],
    "int": NUMBERS,
    "smallint": ["32767", "-32768"],
    "bigint": [*NUMBERS, "9223372036854775807", "-9223372036854775808"],
    "float8": [
        "0", "-0", "1", "0.1", "1.5", "1e15", "1e16", "123456789012345", "1234567890123456789", "1e22", "1e-4",
        "1e-5", "5e-324",
        "1.7976931348623157e308", "9007199254740993", "2.2250738585072014e-308", "9.5367431640625e-07", "NaN",
        "Infinity", "-Infinity",
    ],
    "float4": ["0.1", "1e6", "123456.7", "1234567", "16777216", "3.4028235e38", "1e-45", "NaN", "-Infinity"],
    "numeric": [
        "0", "1.50", "1.0", "100", "0.000001", "-0.00", "12345678901234567890.123456789",
        "1" * 400, "0." + "0" * 30 + "1", "NaN",
        "9" * 4000,
    ],
    "numeric(12,4)": ["1", "12345678.9012", "NaN"],
    "bool": ["t", "f"],
    "date": ["2024-02-29", "0001-01-01 BC", "9999-12-31", "20000-01-01", "infinity", "-infinity"],
    "time": ["00:00", "23:59:59.999999", "24:00"],
    "timetz": ["12:00+02", "23:59:59.5-12:30"],
    "timestamp": [
        "2024-01-02 03:04:05.6789", "2024-01-02 03:04:05", "2024-12-31 23:59:59.9999", "0044-03-15 12:00:00 BC",
        "20000-01-01 00:00:00",
        "infinity", "-infinity",
    ],
    "timestamptz": ["2024-01-02 03:04:05.6789+05:30", "1883-11-18 12:00:00-05", "0044-03-15 12:00:00+00 BC", "infinity"],
    "interval": ["1 day 02:03:04.5", "-1 year 2 mons", "0"],
    "money": ["1234.56", "-0.01"],
    "bytea": ["", "\\x00ff5c22", "\\x0a0d09"],
    "uuid": ["00112233-4455-6677-8899-aabbccddeeff"],
    "json": JSONS,
    "jsonb": [text for text in JSONS if "\\u0000" not in text],
    "inet": ["10.0.0.1/8", "::1"],
    "point": ["(1,2.5)"],
    "int4range": ["[1,5)"],
    "tsvector": ["'a':1 'b''c':2"],
    "text[]": ["{}", "{NULL}", '{"",NULL,"null","a,b","\\"","\\\\","\n"}', "{{a,b},{c,d}}", "[0:1]={a,b}"],
    "int[]": ["{}", "{1,NULL,-3}", "{{1},{2}}"],
    "bool[]": ["{t,f,NULL}"],
    "float8[]": ["{1,1.5,1e16,NaN,Infinity,NULL}"],
    "numeric[]": ["{1.50,NaN,100000000000000000000.00}"],
    "timestamp[]": ["{2024-01-02 03:04:05.6789,infinity,NULL}"],
    "timestamptz[]": ["{2024-01-02 03:04:05.6789+00}"],
    "date[]": ["{2024-02-29,infinity}"],
    "json[]": ['{"{\\"a\\": 1.50}",NULL}'],
    "jsonb[]": ['{"{\\"a\\": 1.50}",NULL}'],
    "uuid[]": ["{00112233-4455-6677-8899-aabbccddeeff}"],
    "bytea[]": ['{"\\\\x00ff"}'],
    "interval[]": ["{1 day}"],
    "money[]": ["{1.5}"],
}  # fmt: skip

Connection = psycopg.Connection[TupleRow]


@pytest.fixture
def connection(database: ScratchDatabase) -> Iterator[Connection]:
    with database.connect() as made_connection:
        made_connection.execute("SET timezone = 'Asia/Kolkata'")
        yield made_connection


def require_same(connection: Connection, resource_id: str, name: str, compat: Compat) -> bytes:
    expected = ckan_dump(connection, resource_id, name, compat)
    assert made(connection, resource_id, name, compat) == expected, f"{name} as CKAN {compat}"
    return expected


def add_rows(connection: Connection, resource_id: str, columns: list[str], rows: Sequence[Sequence[object]]) -> None:
    """Without the full text, for that is no part of a dump, and fails on some JSON. Literals, for names may have a %."""
    for row in rows:
        connection.execute(
            sql.SQL("INSERT INTO {} (_full_text, {}) VALUES ('', {})").format(
                sql.Identifier(resource_id),
                sql.SQL(", ").join(map(sql.Identifier, columns)),
                sql.SQL(", ").join(map(sql.Literal, row)),
            )
        )


@pytest.fixture
def every_type(connection: Connection) -> Connection:
    """A table `every` with a column for each type, and a table for each type alone. The last row is all NULL."""
    create_table(connection, "every", {f"c {type_}": type_ for type_ in (*VALUES, "nested")})
    columns = [sql.Identifier(f"c {type_}") for type_ in VALUES]
    longest = max(map(len, VALUES.values()))
    for number in range(longest):
        values = [sql.SQL("{}::{}").format(v[number % len(v)], sql.SQL(t)) for t, v in VALUES.items()]  # type: ignore[arg-type]
        nested = sql.SQL("row({}::json, 'extra')::nested").format(JSONS[number % len(JSONS)])
        connection.execute(
            sql.SQL("INSERT INTO every (_full_text, {}, {}) VALUES ('', {}, {})").format(
                sql.SQL(", ").join(columns),
                sql.Identifier("c nested"),
                sql.SQL(", ").join(values),
                nested,
            )
        )
    connection.execute("INSERT INTO every (_full_text) VALUES ('')")
    return connection


@pytest.mark.parametrize("compat", COMPATS)
def test_every_type(every_type: Connection, compat: Compat) -> None:
    for name in NAMES:
        assert len(require_same(every_type, "every", name, compat)) > 40_000


@pytest.mark.parametrize("compat", COMPATS)
def test_every_type_alone(every_type: Connection, compat: Compat) -> None:
    """A table with one kind of columns: here JSON comes from Postgres as it is where that is CKAN's."""
    for number, type_ in enumerate((*VALUES, "nested")):
        column = sql.Identifier(f"c {type_}")
        resource_id = f"alone {number}"
        every_type.execute(
            sql.SQL("CREATE TABLE {} AS SELECT _id, {} FROM every").format(sql.Identifier(resource_id), column)
        )
        require_same(every_type, resource_id, "json", compat)
        require_same(every_type, resource_id, "xml", compat)


@pytest.mark.parametrize("compat", COMPATS)
def test_a_domain_is_its_base_type(connection: Connection, compat: Compat) -> None:
    connection.execute("CREATE DOMAIN moment AS timestamp; CREATE DOMAIN birth AS moment; CREATE DOMAIN tags AS text[]")
    create_table(connection, "t", {"b": "birth", "t": "tags"})
    add_rows(connection, "t", ["b", "t"], [("2024-01-02 03:04:05.678", ["a", None]), (None, None)])
    for name in NAMES:
        require_same(connection, "t", name, compat)


@pytest.mark.parametrize("compat", COMPATS)
def test_segments_put_together_are_the_file(every_type: Connection, compat: Compat) -> None:
    segments = ("_id < 1", "_id < 4", "_id >= 4 AND _id < 4", "_id >= 4 AND _id < 20", "_id >= 20", "_id > 1000")
    for name in NAMES:
        expected = ckan_dump(every_type, "every", name, compat)
        assert made(every_type, "every", name, compat, segments) == expected, name


@pytest.mark.parametrize("compat", COMPATS)
@pytest.mark.parametrize("columns", [{}, {"a": "text"}, {"a": "float8"}], ids=["only _id", "text", "float8"])
def test_empty_table(connection: Connection, compat: Compat, columns: dict[str, str]) -> None:
    create_table(connection, "t", columns)
    before = [require_same(connection, "t", name, compat) for name in NAMES]
    connection.execute("INSERT INTO t DEFAULT VALUES")
    after = [require_same(connection, "t", name, compat) for name in NAMES]
    assert all(one != other for one, other in zip(before, after, strict=True))


def test_the_bytes_of_a_small_table(connection: Connection) -> None:
    """The whole of it in plain sight, so that the comparison above is not all that there is."""
    create_table(connection, "t", {"a b": "text", "x": "float8", "when": "timestamp"}, info={"x": {"label": "X"}})
    add_rows(connection, "t", ["a b", "x", "when"], [('q"', 1e16, "2024-01-02 03:04:05.9999"), (None, None, None)])
    assert made(connection, "t", "tsv", Compat()) == (
        b'_id\ta b\tx\twhen\r\n1\t"q"""\t1e+16\t2024-01-02T03:04:05.999\n2\t\t\t\n'
    )
    assert made(connection, "t", "json-bom", Compat("2.11")).decode() == (
        '\ufeff{\n  "fields": [{"id":"_id","type":"int"},{"id":"a b","type":"text"},'
        '{"id":"x","type":"float8","info":{"label":"X"}},{"id":"when","type":"timestamp"}],\n  "records": [\n'
        '    [1,"q\\"",1e+16,"2024-01-02T03:04:05"],\n    [2,null,null,null]\n]}\n'
    )
    assert made(connection, "t", "xml", Compat()).decode() == (
        '<data xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">\n'
        '<row _id="1"><a_b>q"</a_b><x>1e+16</x><when>2024-01-02T03:04:05.999</when></row>\n'
        '<row _id="2"><a_b xsi:nil="true" /><x xsi:nil="true" /><when xsi:nil="true" /></row>\n</data>\n'
    )
    assert b"<a b>" in made(connection, "t", "xml", Compat("2.11"))


ODD_NAMES = [
    "a b", "a_b", "a  b", "a.b", "%", "%%", "1", "12ab", "XML", "xml1a", "1xMl2", "-x", "é", "e\u0301", "<&>",
    'quote"', "tab\t", "new\nline", "{", "}",
    ":p", "%s", "comma,", "a]b", "日本", "\U0001f600", "a_b_0", "select", "row", "É", " lead", "x-1.y",
]  # fmt: skip


@pytest.mark.parametrize("compat", COMPATS)
def test_odd_names_of_columns(connection: Connection, compat: Compat) -> None:
    create_table(connection, 'odd "table" %s', {column: "text" for column in ODD_NAMES if column != "{"})
    add_rows(connection, 'odd "table" %s', ["a b", "%s", "1"], [("1", "2", "<3>"), ("", "{}", None)])
    for name in NAMES:
        require_same(connection, 'odd "table" %s', name, compat)


@pytest.mark.parametrize("compat", COMPATS)
def test_columns_named_like_a_name_in_a_namespace(connection: Connection, compat: Compat) -> None:
    create_table(connection, "t", {"{urn:x}y": "json", "{urn:x}z": "text", "plain": "text"})
    add_rows(connection, "t", ["{urn:x}y", "plain"], [('{"a": [1, "&", null]}', "é<"), (None, "")])
    require_same(connection, "t", "xml", compat)
    create_table(connection, "u", {"{": "text"})
    add_rows(connection, "u", ["{"], [("x",)])
    if compat.release == "2.12":
        require_same(connection, "u", "xml", compat)
    else:
        with pytest.raises(ValueError):
            ckan_dump(connection, "u", "xml", compat)
        with pytest.raises(UnsupportedValueError, match="_id 1"):
            made(connection, "u", "xml", compat)


@pytest.mark.parametrize("compat", COMPATS)
def test_a_column_that_is_called_like_ckans_row(connection: Connection, compat: Compat) -> None:
    """`array_agg(j)` in CKAN's query takes the column instead of the row: CKAN fails, which is no reason that we do."""
    name = "select_cols" if compat.release == "2.12" else "j"
    create_table(connection, "t", {name: "text"})
    add_rows(connection, "t", [name], [("x",)])
    with pytest.raises(TypeError):
        ckan_dump(connection, "t", "xml", compat)
    assert f'<row _id="1"><{name}>x</{name}></row>'.encode() in made(connection, "t", "xml", compat)
    require_same(connection, "t", "json", compat)


COMMENTS = [
    ' {"_info": {"label": "Ü \u2028", "n": [1.50, 1e2, null]}}', '{"label": "old"}', ' {"_info": null}',
    ' {"_info": {}}', "[1]", '"_info"', "1e400",
    "null", ' {"_info": 1, "_info": {"last": true}}', '{"a": {"_info": 1}}', '\n{ "_info" : "\\u00e9\\/" }',
    ' {"_info": 123456789012345678901234567890}',
]  # fmt: skip


@pytest.mark.parametrize("compat", COMPATS)
@pytest.mark.parametrize("comment", COMMENTS)
def test_comments(connection: Connection, compat: Compat, comment: str) -> None:
    create_table(connection, "t", {"a": "nested", "b": "_int4", "c": "text"}, info={"c": {"label": "C"}})
    connection.execute(sql.SQL("COMMENT ON COLUMN t.a IS {}").format(comment))
    require_same(connection, "t", "json", compat)
    connection.execute('COMMENT ON COLUMN t._id IS \'{"_info": {"notes": "key"}}\'')
    require_same(connection, "t", "json", compat)


NO_JSON = [
    "no JSON", "{'_info': 1}", "NaN", '{"_info": Infinity}', "", "{", '{"a": "\x01"}', '{"_info": "\\ud800"}', "  ",
]  # fmt: skip


@pytest.mark.parametrize("compat", COMPATS)
def test_comments_that_are_no_json(connection: Connection, compat: Compat) -> None:
    create_table(connection, "t", {"a": "text", "b": "text"}, info={"b": {"label": "B"}})
    for comment in NO_JSON:
        connection.execute(sql.SQL("COMMENT ON COLUMN t.a IS {}").format(comment))
        try:
            expected = ckan_dump(connection, "t", "json", compat)
        except (psycopg.DataError, UnicodeEncodeError):
            with pytest.raises(UnsupportedValueError, match=r"'a'|a comment"):
                made(connection, "t", "json", compat)
        else:
            assert compat.release == "2.10" or not comment
            assert made(connection, "t", "json", compat) == expected, comment
        assert made(connection, "t", "csv", compat) == b"_id,a,b\r\n"


REFUSED = {"lone surrogate": '"a\\ud800b"', "low surrogate": '["\\udc00"]', "too large": "1E400", "digits": "1" * 4301}


@pytest.mark.parametrize("compat", COMPATS)
@pytest.mark.parametrize("value", REFUSED.values(), ids=REFUSED.keys())
def test_values_that_ckan_refuses(connection: Connection, compat: Compat, value: str) -> None:
    """Whatever CKAN's libraries make of them: the same bytes, or an error that names the column and the row."""
    create_table(connection, "t", {"good": "json", "bad one": "json"})
    add_rows(connection, "t", ["good", "bad one"], [("1", "2"), (" [1.5]", value), ("1", "2")])
    for name in ("json", "xml"):
        try:
            expected = ckan_dump(connection, "t", name, compat)
        except (ValueError, msgspec.MsgspecError):
            with pytest.raises(UnsupportedValueError, match="'bad one' in the row with _id 2") as caught:
                made(connection, "t", name, compat)
            assert value not in caught.value.message
        else:
            assert compat.release == "2.10"
            assert made(connection, "t", name, compat) == expected
    require_same(connection, "t", "csv", Compat("2.10"))


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.tuples(TEXT | st.none(), st.floats(), st.decimals(allow_nan=False, allow_infinity=False), JSON), max_size=5
    )
)
def test_random_values(connection: Connection, rows: list[tuple[object, ...]]) -> None:
    connection.execute("DROP TABLE IF EXISTS t")
    create_table(connection, "t", {"t": "text", "f": "float8", "n": "numeric", "json": "json"})
    add_rows(connection, "t", ["t", "f", "n", "json"], [(t, f, n, simplejson.dumps(j)) for t, f, n, j in rows])
    for compat in (Compat("2.10"), Compat("2.12")):
        for name in ("json", "xml"):
            require_same(connection, "t", name, compat)
