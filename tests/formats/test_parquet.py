"""Parquet files hold the table value by value, as two readers see it that share no code."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg import sql

from datastore_dumper.errors import ConfigError, UnsupportedTypeError, UnsupportedValueError
from datastore_dumper.formats import Column, Table, file_format
from datastore_dumper.formats.parquet.columns import parquet_columns
from datastore_dumper.formats.parquet.file import write_file
from datastore_dumper.formats.registry import load_format
from datastore_dumper.install import install
from tests.support.daemon import Dumper
from tests.support.datastore import create_table
from tests.support.exporting import Exporter
from tests.support.installation import ROLES, handle

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20) | st.sampled_from(
    [
        "",
        " ",
        "\\N",
        "\\.",
        '"',
        '""',
        ",",
        "a\r\nb",
        "\n",
        "\t",
        "NULL",
        "null",
        "NaN",
        "\u2028",
        "e\u0301",
        "🦆",
        "\\\\",
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
).map(json.dumps)
DAYS = st.tuples(st.integers(1, 12), st.integers(1, 28))
TIMES = st.builds("{:02}:{:02}:{:02}.{:06}".format, *map(st.integers, (0,) * 4, (23, 59, 59, 999_999)))


def years(last: int) -> st.SearchStrategy[tuple[int, str]]:
    usual = st.integers(1, 9999)
    return st.tuples(usual | st.integers(10_000, last), st.just("")) | st.tuples(st.integers(1, 4700), st.just(" BC"))


def moments(zone: str) -> st.SearchStrategy[str]:
    return st.builds(
        lambda year, day, time: f"{year[0]:04}-{day[0]:02}-{day[1]:02} {time}{zone}{year[1]}",
        years(294_245),
        DAYS,
        TIMES,
    )


def decimals(digits: int, places: int) -> st.SearchStrategy[str]:
    return st.integers(-(10**digits) + 1, 10**digits - 1).map(lambda number: f"{number}e{-places}")


# Each type as SQL writes it, and texts of values that it takes.
VALUES: dict[str, st.SearchStrategy[str]] = {
    "text": TEXT,
    "varchar": TEXT,
    "char(25)": TEXT.map(lambda text: text[:5]),
    "int2": st.integers(-(2**15), 2**15 - 1).map(str),
    "int4": st.integers(-(2**31), 2**31 - 1).map(str),
    "int8": st.integers(-(2**63), 2**63 - 1).map(str),
    "float4": st.floats(width=32).map(repr),
    "float8": st.floats().map(repr),
    "numeric": decimals(60, 30) | st.sampled_from(["NaN", "Infinity", "-Infinity", "1e500", "1e-500", "0.10", "-0"]),
    "numeric(12,3)": decimals(12, 3),
    "numeric(38,10)": decimals(38, 10),
    "numeric(60,2)": decimals(60, 2),
    "numeric(3,5)": decimals(3, 5),
    "numeric(3,-2)": decimals(3, -2),
    "bool": st.sampled_from(["true", "false"]),
    "date": st.builds(lambda y, day: f"{y[0]:04}-{day[0]:02}-{day[1]:02}{y[1]}", years(5_874_897), DAYS),
    "time": TIMES,
    "timetz": TIMES.map(lambda text: text + "+05:30"),
    "timestamp": moments(""),
    "timestamptz": moments("+05:30"),
    "interval": st.sampled_from(["1 year 2 mons -3 days 04:05:06.789", "-00:00:01", "0", "178000000 years"]),
    "money": st.sampled_from(["-12.34", "0", "92233720368547758.07"]),
    "uuid": st.uuids().map(str),
    "bytea": st.binary(max_size=9).map(lambda data: "\\x" + data.hex()),
    "json": JSON,
    "jsonb": JSON.filter(lambda text: "\\u0000" not in text),
    "inet": st.sampled_from(["10.0.0.1", "10.0.0.0/8", "::1"]),
    "nested": JSON.map(lambda text: '("{}",more)'.format(text.replace("\\", "\\\\").replace('"', '""'))),
}


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[list[str | list[str | None] | None]]]:
    """Column types, and rows of texts, lists of texts for arrays."""
    types = draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=6))
    arrays = [draw(st.booleans()) and not type_.startswith("char(") for type_ in types]
    cells: list[st.SearchStrategy[Any]] = [
        st.none() | (st.lists(st.none() | VALUES[type_], max_size=4) if array else VALUES[type_])
        for type_, array in zip(types, arrays, strict=True)
    ]
    rows = draw(st.lists(st.tuples(*cells).map(list), max_size=12))
    return [type_ + "[]" * array for type_, array in zip(types, arrays, strict=True)], rows


def fill(exporter: Exporter, types: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Table t with columns c0, c1 .. of these types."""
    exporter.writer.execute("DROP TABLE IF EXISTS t")
    create_table(exporter.writer, "t", {f"c{number}": type_ for number, type_ in enumerate(types)})
    exporter.writer.execute("ALTER TABLE t DISABLE TRIGGER zfulltext")  # it would read json that jsonb cannot hold
    casts = ["%s::text[]::" + type_ if type_.endswith("[]") else "%s::text::" + type_ for type_ in types]
    statement = f"INSERT INTO t ({', '.join(f'c{number}' for number in range(len(types)))}) VALUES ({', '.join(casts)})"
    with exporter.writer.cursor() as cursor:
        cursor.executemany(statement.encode(), rows)


def comparable(value: object) -> object:
    """Floats by their bits: NaN is NaN and -0 is not 0."""
    if isinstance(value, float):
        return "NaN" if value != value else struct.pack(">d", value)
    if isinstance(value, list):
        return [comparable(each) for each in value]
    return value


def kept_by_postgres(exporter: Exporter, types: Sequence[str]) -> list[list[object]]:
    """The rows as Postgres computes them: points in time as numbers since 1970, what stays text as text."""

    def expression(type_: str, value: str) -> str:
        if type_ in ("timestamp", "timestamptz", "time"):
            return f"(extract(epoch FROM {value}) * 1000000)::int8"
        if type_ == "date":
            return f"{value} - DATE '1970-01-01'"
        if type_ == "float4":
            return f"{value}::float8"  # exact, while its text has just the digits that a float4 needs
        if type_ == "nested":
            return f"({value}).json::text"
        if type_ in ("json", "jsonb"):
            return f"{value}::text"
        if type_ in ("numeric", "numeric(60,2)", "interval", "money", "uuid", "inet", "timetz", "char(25)"):
            return f"to_json({value}::text)#>>'{{}}'" if type_.startswith("numeric") else f"to_json({value})#>>'{{}}'"
        return value

    expressions = []
    for number, type_ in enumerate(types):
        column = f"c{number}"
        if not type_.endswith("[]"):
            expressions.append(f"CASE WHEN {column} IS NOT NULL THEN {expression(type_, column)} END")
        elif type_ == "nested[]":
            part = "SELECT json::text FROM ROWS FROM (unnest(c)) WITH ORDINALITY AS u(json, extra, n) ORDER BY n"
            expressions.append(f"CASE WHEN {column} IS NOT NULL THEN ARRAY({part.replace('(c)', f'({column})')}) END")
        else:
            value = f"CASE WHEN v IS NOT NULL THEN {expression(type_.removesuffix('[]'), 'v')} END"
            part = f"SELECT {value} FROM unnest({column}) WITH ORDINALITY AS u(v, n) ORDER BY n"
            expressions.append(f"CASE WHEN {column} IS NOT NULL THEN ARRAY({part}) END")
    with exporter.database.connect("ckan_read") as connection:
        connection.execute("SET intervalstyle = iso_8601")
        query = f"SELECT _id, {', '.join(expressions)} FROM t ORDER BY _id"
        return [[comparable(value) for value in row] for row in connection.execute(query.encode())]


def read_by_arrow(path: Path) -> list[list[object]]:
    def numbers(type_: pa.DataType) -> pa.DataType:
        if pa.types.is_list(type_):
            return pa.list_(numbers(type_.value_type))
        if pa.types.is_timestamp(type_) or pa.types.is_time(type_):
            return pa.int64()
        return pa.int32() if pa.types.is_date(type_) else type_

    table = pq.read_table(path)
    columns = [column.cast(numbers(column.type)).to_pylist() for column in table.columns]
    return [[comparable(value) for value in row] for row in zip(*columns, strict=True)]


def read_by_duckdb(path: Path) -> list[list[object]]:
    def numbers(type_: str, value: str) -> str:
        if type_.endswith("[]"):
            return f"list_transform({value}, lambda v: {numbers(type_.removesuffix('[]'), 'v')})"
        if type_.startswith("TIME"):
            return f"epoch_us({value})"
        return f"{value} - DATE '1970-01-01'" if type_ == "DATE" else value

    with duckdb.connect() as connection:
        file = connection.read_parquet(str(path))
        quoted = ['"{}"'.format(name.replace('"', '""')) for name in file.columns]
        wanted = [numbers(str(type_), name) for type_, name in zip(file.types, quoted, strict=True)]
        rows = file.project(", ".join(wanted)).fetchall()
    return [[comparable(value) for value in row] for row in rows]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(table=tables())
@example(table=(sorted(VALUES), [[None] * len(VALUES)]))
@example(table=(sorted(f"{type_}[]" for type_ in VALUES if "char(" not in type_), []))
def test_two_readers_see_the_values_of_the_table(exporter: Exporter, table: tuple[list[str], list[list[Any]]]) -> None:
    types, rows = table
    fill(exporter, types, rows)
    path = exporter.file("t", "parquet")
    expected = kept_by_postgres(exporter, types)
    assert len(expected) == len(rows)
    assert read_by_arrow(path) == expected
    assert read_by_duckdb(path) == expected


@pytest.mark.parametrize(
    ("type_", "arrow_type"),
    [
        ("int2", pa.int16()),
        ("int4", pa.int32()),
        ("int8", pa.int64()),
        ("float4", pa.float32()),
        ("float8", pa.float64()),
        ("bool", pa.bool_()),
        ("date", pa.date32()),
        ("time", pa.time64("us")),
        ("timestamp", pa.timestamp("us")),
        ("timestamptz", pa.timestamp("us", tz="UTC")),
        ("bytea", pa.binary()),
        ("numeric", pa.string()),
        ("numeric(12,3)", pa.decimal128(12, 3)),
        ("numeric(3,5)", pa.decimal128(5, 5)),
        ("numeric(3,-2)", pa.decimal128(5, 0)),
        ("numeric(38,10)", pa.decimal128(38, 10)),
        ("numeric(39,0)", pa.string()),
        ("numeric(9,2)[]", pa.list_(pa.decimal128(9, 2))),
        ("_int4", pa.list_(pa.int32())),
        ("int4[][]", pa.list_(pa.list_(pa.int32()))),
        ("json", pa.string()),
        ("nested", pa.string()),
        ("nested[]", pa.list_(pa.string())),
        ("interval", pa.string()),
    ],
)
def test_the_type_of_a_column(exporter: Exporter, type_: str, arrow_type: pa.DataType) -> None:
    fill(exporter, [type_], [[None]])
    schema = pq.read_schema(exporter.file("t", "parquet"))
    assert schema.names == ["_id", "c0"]
    assert schema.field("c0").type.equals(arrow_type)


def test_arrays_of_more_dimensions_if_they_are_declared(exporter: Exporter) -> None:
    fill(exporter, ["int4[][]"], [])
    exporter.writer.execute("INSERT INTO t (c0) VALUES ('{{1,2},{3,NULL}}'), ('{}'), (NULL), ('[5:5][2:3]={{7,8}}')")
    path = exporter.file("t", "parquet")
    expected = [[1, [[1, 2], [3, None]]], [2, []], [3, None], [4, [[7, 8]]]]
    assert read_by_arrow(path) == expected
    assert read_by_duckdb(path) == expected


def test_comments_and_types_are_metadata_of_fields(exporter: Exporter) -> None:
    create_table(exporter.writer, "t", {"a": "numeric", "b": "text"}, info={"a": {"label": "Öl", "notes": 'in "t"'}})
    row = exporter.writer.execute("SELECT col_description('t'::regclass, 3)").fetchone()
    assert row is not None
    schema = pq.read_schema(exporter.file("t", "parquet"))
    assert schema.field("a").metadata == {b"postgres_type": b"numeric", b"comment": row[0].encode()}
    assert schema.field("b").metadata == {b"postgres_type": b"text"}


def test_an_empty_table_is_a_schema(exporter: Exporter) -> None:
    create_table(exporter.writer, "t", {"a": "numeric(5,2)"})
    path = exporter.file("t", "parquet")
    assert pq.ParquetFile(path).metadata.num_row_groups == 0
    assert read_by_duckdb(path) == []
    assert pq.read_schema(path).names == ["_id", "a"]


def test_250_columns_with_odd_names(exporter: Exporter) -> None:
    odd = [
        '"',
        "a b",
        "%s",
        "Ü\u0308ber",
        "🦆",
        "a.b",
        "a,b",
        "\u2028",
        "'",
        "\\",
        "{}",
        "SELECT",
        "0",
        "tab\there",
        "a\nb",
    ]
    names = [*odd, *(f"column {number}" for number in range(250 - len(odd)))]
    create_table(exporter.writer, "t", dict.fromkeys(names, "text"))
    exporter.writer.execute(
        sql.SQL("INSERT INTO t ({}) VALUES ({})").format(
            sql.SQL(", ").join(map(sql.Identifier, names)), sql.SQL(", ").join(map(sql.Literal, names))
        )
    )
    path = exporter.file("t", "parquet")
    assert pq.read_schema(path).names == ["_id", *names]
    assert read_by_arrow(path) == read_by_duckdb(path) == [[1, *names]]


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("timestamp", "infinity"),
        ("timestamptz", "-infinity"),
        ("timestamp", "294247-01-10 04:00:54.775808"),
        ("date", "infinity"),
        ("time", "24:00:00"),
        ("numeric(5,2)", "NaN"),
        ("int4[]", "{{1,2},{3,4}}"),
        ("nested[]", '{{"(1,)"},{"(2,)"}}'),
        ("int4[][]", "{1,2}"),
        ("timestamp[]", "{infinity}"),
    ],
)
def test_a_value_that_parquet_cannot_hold_is_refused_and_its_column_named(
    exporter: Exporter, type_: str, value: str
) -> None:
    fill(exporter, ["text", type_], [])
    exporter.writer.execute(f"INSERT INTO t (c1) VALUES ('{value}')".encode())
    with pytest.raises(UnsupportedValueError, match='t: column "c1" '):
        exporter.file("t", "parquet")


def test_the_last_microsecond_that_parquet_can_hold(exporter: Exporter) -> None:
    fill(exporter, ["timestamp"], [["294247-01-10 04:00:54.775807"]])
    assert read_by_arrow(exporter.file("t", "parquet")) == [[1, 2**63 - 1]]


@pytest.mark.parametrize("type_", ["point", "int4range[]", "tsvector"])
def test_a_type_without_counterpart_is_refused_and_its_column_named(exporter: Exporter, type_: str) -> None:
    create_table(exporter.writer, "t", {"fine": "text", "odd": type_})
    with pytest.raises(UnsupportedTypeError, match='t: column "odd" is of type'):
        exporter.file("t", "parquet")


def test_row_groups_are_bounded_in_rows_and_equal_rows_make_equal_bytes(exporter: Exporter) -> None:
    create_table(exporter.writer, "t", {"a": "text", "b": "float8"})
    exporter.writer.execute("ALTER TABLE t DISABLE TRIGGER zfulltext")
    exporter.writer.execute("INSERT INTO t (a, b) SELECT md5(i::text), sin(i) FROM generate_series(1, 300000) i")
    first, second = (exporter.file("t", "parquet") for _ in range(2))
    assert first.read_bytes() == second.read_bytes()
    metadata = pq.ParquetFile(first).metadata
    groups = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    assert sum(groups) == 300_000
    assert all(65_536 <= rows < 131_072 for rows in groups[:-1])
    assert 0 < groups[-1] < 131_072


def test_row_groups_are_bounded_in_bytes(exporter: Exporter) -> None:
    create_table(exporter.writer, "t", {"a": "text"})
    exporter.writer.execute("ALTER TABLE t DISABLE TRIGGER zfulltext")
    # 100 rows of a megabyte that does not compress well, and one value of 20 MB.
    exporter.writer.execute(
        "INSERT INTO t (a) SELECT (SELECT string_agg(md5((i * 50000 + n)::text), '') FROM generate_series(1, 32768) n) "
        "FROM generate_series(1, 100) i"
    )
    exporter.writer.execute("INSERT INTO t (a) VALUES (repeat('long, \"quoted\"\n', 1250000))")
    path = exporter.file("t", "parquet")
    metadata = pq.ParquetFile(path).metadata
    sizes = [metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups)]
    assert len(sizes) >= 3
    assert max(sizes) < 40 * 2**20
    with exporter.database.connect() as connection:
        expected = connection.execute("SELECT _id, md5(a) FROM t ORDER BY _id").fetchall()
    with duckdb.connect() as reader:
        assert reader.execute("SELECT _id, md5(a) FROM read_parquet(?)", [str(path)]).fetchall() == expected


MEASURE = """
import sys
from itertools import chain
from pathlib import Path
import psycopg
from psycopg import sql
from datastore_dumper.export import copy_out
from datastore_dumper.formats import Column, Compat, Table, file_format

types = dict(_id="int4", a="text", b="float8", c="timestamp", d="numeric", e="bool", f="int8")
table = Table("t", tuple(Column(name, type_) for name, type_ in types.items()))
parquet = file_format("parquet").format
with psycopg.connect(sys.argv[1], autocommit=True) as connection:
    query = parquet.copy_query(table, Compat(), sql.SQL("true")).as_string(connection)
    length = sum(map(len, parquet.rows(chain.from_iterable(copy_out(connection, query)), table, Compat())))
# Not ru_maxrss, which begins with the size of the process that forked this one.
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(length, status["VmHWM"].split()[0])
"""


def test_memory_does_not_grow_with_the_table(exporter: Exporter) -> None:
    create_table(
        exporter.writer,
        "t",
        {"a": "text", "b": "float8", "c": "timestamp", "d": "numeric", "e": "bool", "f": "int8"},
    )
    exporter.writer.execute("ALTER TABLE t DISABLE TRIGGER zfulltext")
    peaks: list[int] = []
    lengths: list[int] = []
    for rows in (100_000, 900_000):
        exporter.writer.execute(
            "INSERT INTO t (a, b, c, d, e, f) SELECT md5(i::text), sin(i), "
            "'2020-01-01'::timestamp + i * '1.5 s'::interval, i / 7.0, i %% 2 = 0, hashint8extended(i, 0) "
            "FROM generate_series(1, %s) i",
            [rows],
        )
        measured = subprocess.run(
            [sys.executable, "-c", MEASURE, exporter.database.dsn],
            check=True,
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        length, peak_kib = map(int, measured.stdout.split())
        lengths.append(length)
        peaks.append(peak_kib)
    assert lengths[1] > 8 * lengths[0]
    assert peaks[1] < 256 * 1024, peaks
    assert peaks[1] - peaks[0] < 64 * 1024, peaks


def test_without_pyarrow_the_configuration_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    load_format.cache_clear()
    file_format.cache_clear()
    with pytest.raises(ConfigError, match="pyarrow") as refused:
        file_format("parquet")
    assert "pip install 'ckanext-datastore-dumper[listener,parquet]'" in refused.value.hint


def test_there_is_no_byte_order_mark_in_parquet() -> None:
    with pytest.raises(ConfigError, match="parquet-bom"):
        file_format("parquet-bom")


def failures(dumper: Dumper) -> Mapping[str, str]:
    with dumper.database.connect() as admin:
        return dict(admin.execute("SELECT format, error FROM datastore_dumper.format_failure").fetchall())


def test_a_type_unknown_to_parquet_leaves_csv_published(dumper: Dumper) -> None:
    with dumper.database.connect("ckan_write") as writer:
        create_table(writer, "t", {"name": "text", "where": "point"})
        writer.execute("""INSERT INTO t (name, "where") VALUES ('here', '(1,2)')""")
    install(handle(dumper.database), ROLES)
    assert dumper.once(export={"formats": ["csv", "csv.gz", "parquet"]}) == 0
    assert dumper.file("t") == b'_id,name,where\r\n1,here,"(1,2)"\n'
    found = failures(dumper)
    assert set(found) == {"parquet"}
    assert 'column "where"' in found["parquet"]


def test_text_that_is_not_utf_8_is_refused_and_its_column_named() -> None:
    """As a database in SQL_ASCII may send it."""
    columns = parquet_columns(Table("t", (Column("_id", "int4"), Column("a", "text"), Column("b", "text"))))
    with pytest.raises(UnsupportedValueError, match=r't: column "b" .*UTF8'):
        list(write_file(iter([b"1,\xc3\xa4,ok\n", b"2,ok,\xff\n"]), "t", columns))
