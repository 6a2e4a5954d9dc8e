"""Types of Parquet for the types of Postgres (docs/reference/parquet.md), and the way of a value from one to the other.

A value comes as the text that Postgres writes, an array as a JSON array of its elements' texts. Arrow makes values of it, a
column at a time; nothing is rounded: what has no exact counterpart stays text.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from psycopg import sql

from datastore_dumper.errors import UnsupportedTypeError
from datastore_dumper.formats.base import Column, Table
from datastore_dumper.formats.parquet.dates import days, microseconds

_TEXTS = frozenset(
    {
        "bpchar",
        "cidr",
        "citext",
        "inet",
        "interval",
        "json",
        "jsonb",
        "macaddr",
        "macaddr8",
        "money",
        "name",
        "nested",
        "text",
        "timetz",
        "uuid",
        "varchar",
        "xml",
    }
)
"""Types that stay text."""
_OTHER_JSON = frozenset({"json", "jsonb", "nested"})
"""Those of them whose arrays array_to_json() would not make arrays of strings."""

_DECIMAL_DIGITS = 38  # decimal128; most readers have no more (DuckDB reads a wider decimal as a double)

Convert = Callable[[Any], Any]
"""From an Arrow array of strings to one of values. Raises `ValueError` for a value that does not fit."""


@dataclass(frozen=True)
class ParquetColumn:
    """A column of the file."""

    field: pa.Field
    expression: sql.Composable
    """What Postgres is to send."""
    convert: Convert

    @property
    def name(self) -> str:
        return str(self.field.name)


def parquet_columns(table: Table) -> list[ParquetColumn]:
    """Raises `UnsupportedTypeError` for a column of a type that is not known here."""
    return [_parquet_column(table, column) for column in table.columns]


def _parquet_column(table: Table, column: Column) -> ParquetColumn:
    name = sql.Identifier(column.name)
    element = column.type.removeprefix("_")
    type_, convert = _value(element, column.typmod)
    if type_ is None:
        raise UnsupportedTypeError(
            f'{table.resource_id}: column "{column.name}" is of type {column.type}, which has no counterpart in Parquet'
        )
    expression: sql.Composable = name
    if element != column.type:
        expression = _array_expression(element, name)
        depth = max(column.dimensions, 1)  # 0 for a column declared as _int4
        convert = _in_lists(convert, depth)
        for _ in range(depth):
            type_ = pa.list_(type_)
    elif element == "nested":
        expression = sql.SQL("({}).json").format(name)
    metadata = {"postgres_type": column.type}
    if column.comment is not None:
        metadata["comment"] = column.comment
    return ParquetColumn(pa.field(column.name, type_, metadata=metadata), expression, convert)


def _value(type_name: str, typmod: int) -> tuple[pa.DataType | None, Convert]:
    if type_name in _TEXTS:
        return pa.string(), _same
    if type_name == "numeric":
        decimal = _decimal(typmod)
        return (pa.string(), _same) if decimal is None else (decimal, _cast(decimal))
    return _TYPES.get(type_name, (None, _same))


def _decimal(typmod: int) -> pa.DataType | None:
    """The decimal that holds every value of numeric(precision, scale); None for a numeric without, or a longer one.

    Parquet wants 0 <= scale <= precision; Postgres has numeric(3, 5), for up to 0.00999, and numeric(3, -2), for up to
    99900 (PostgreSQL: "Arbitrary Precision Numbers"; typmod: numeric_typmod_scale() in numeric.c).
    """
    if typmod < 0:
        return None
    packed = typmod - 4
    precision = packed >> 16 & 0xFFFF
    scale = ((packed & 0x7FF) ^ 1024) - 1024
    digits = max(precision, scale) if scale >= 0 else precision - scale
    return pa.decimal128(digits, max(scale, 0)) if digits <= _DECIMAL_DIGITS else None


def _array_expression(element: str, name: sql.Identifier) -> sql.Composable:
    if element == "nested":
        # Taken apart by elements; what has more dimensions goes as it is, and fails later, as it does for any type.
        return sql.SQL(
            "CASE WHEN pg_catalog.array_ndims({name}) = 1 THEN pg_catalog.array_to_json(ARRAY("
            "SELECT part.json::pg_catalog.text FROM ROWS FROM (pg_catalog.unnest({name})) "
            "WITH ORDINALITY AS part (json, extra, place) ORDER BY part.place"
            ")) ELSE pg_catalog.array_to_json({name}) END"
        ).format(name=name)
    # The cast would strip the blanks at the end of a bpchar.
    texts = "{}" if element in _TEXTS - _OTHER_JSON else "{}::pg_catalog.text[]"
    return sql.SQL(f"pg_catalog.array_to_json({texts})").format(name)


def _in_lists(convert: Convert, depth: int) -> Convert:
    def convert_arrays(texts: Any) -> Any:
        return lists([None if text is None else json.loads(text) for text in texts.to_pylist()], depth)

    def lists(values: list[Any], levels: int) -> Any:
        """`values` are lists, or None, each with `levels` levels of lists in all."""
        elements: list[Any] = []
        offsets = [0]
        for value in values:
            if value is not None:
                elements += value
            offsets.append(len(elements))
        if any(isinstance(element, list) is not (levels > 1) for element in elements if element is not None):
            raise ValueError(f"an array that has not the {depth} dimensions of the column")
        inner = lists(elements, levels - 1) if levels > 1 else convert(pa.array(elements, pa.string()))
        mask = pa.array([value is None for value in values], pa.bool_())
        return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), inner, mask=mask)

    return convert_arrays


def _same(texts: Any) -> Any:
    return texts


def _cast(type_: pa.DataType) -> Convert:
    return lambda texts: texts.cast(type_)


def _bool(texts: Any) -> Any:
    """`t` and `f` in columns, `true` and `false` in arrays."""
    return pc.starts_with(texts, "t")


def _points_in_time(type_: pa.DataType, integer: pa.DataType, parse: Callable[[str], int]) -> Convert:
    """Arrow parses the years 1 to 9999; a column with others, or with infinities, goes through `parse`."""

    def convert(texts: Any) -> Any:
        try:
            return texts.cast(type_)
        except pa.ArrowInvalid:
            numbers = [None if text is None else parse(text) for text in texts.to_pylist()]
            return pa.array(numbers, integer).cast(type_)

    return convert


def _time(texts: Any) -> Any:
    """Arrow has no cast for times alone. 24:00:00, which Postgres knows, is none in Parquet either."""
    moments = pc.binary_join_element_wise(pa.scalar("1970-01-01"), texts, " ").cast(pa.timestamp("us"))
    return moments.cast(pa.int64()).cast(pa.time64("us"))


def _bytea(texts: Any) -> Any:
    return pa.array(
        [None if text is None else bytes.fromhex(text.removeprefix("\\x")) for text in texts.to_pylist()], pa.binary()
    )


_TYPES: dict[str, tuple[pa.DataType, Convert]] = {
    **{
        name: (type_, _cast(type_))
        for name, type_ in {
            "int2": pa.int16(),
            "int4": pa.int32(),
            "int8": pa.int64(),
            "float4": pa.float32(),
            "float8": pa.float64(),
        }.items()
    },
    **{
        name: (type_, _points_in_time(type_, integer, parse))
        for name, type_, integer, parse in (
            ("timestamp", pa.timestamp("us"), pa.int64(), microseconds),
            ("timestamptz", pa.timestamp("us", tz="UTC"), pa.int64(), microseconds),
            ("date", pa.date32(), pa.int32(), days),
        )
    },
    "bool": (pa.bool_(), _bool),
    "time": (pa.time64("us"), _time),
    "bytea": (pa.binary(), _bytea),
}
