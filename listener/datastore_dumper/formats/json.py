"""JSON, byte for byte as CKAN sends it: `fields` from the columns and their comments, `records` as lists.

Rows that CKAN cannot change by decoding and encoding them come from Postgres as they are; others are decoded and encoded
here as that release of CKAN does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from psycopg import sql

from datastore_dumper.errors import UnsupportedValueError
from datastore_dumper.formats.base import Column, Compat, Format, Table
from datastore_dumper.formats.columns import is_plain_json
from datastore_dumper.formats.records import REFUSALS, copy_records, json_text, records, unsupported

# simplejson.dumps(.., ensure_ascii=False, separators=(",", ":")) of every release gives these bytes for all that its
# decoder returns (tests/formats/test_json_encoder.py); the encoder in C of the standard library is the faster one.
_ENCODER = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":"))
_INFO = "_info"


class JsonFormat(Format):
    """`application/json` of CKAN's DataStore dump (ckanext/datastore/writer.py, json_writer and JSONWriter)."""

    name = "json"
    extension = "json"
    content_type = "application/json; charset=utf-8"
    joiner = b","

    def copy_query(self, table: Table, compat: Compat, where: sql.Composable) -> sql.Composed:
        return copy_records(table, compat, where)

    def head(self, table: Table, compat: Compat) -> bytes:
        return b'{\n  "fields": ' + _fields(table, compat) + b',\n  "records": ['

    def rows(self, messages: Iterator[bytes], table: Table, compat: Compat) -> Iterator[bytes]:
        plain = all(map(is_plain_json, table.columns))
        texts = map(json_text, messages) if plain else _encoded(messages, table, compat)
        separator = b"\n    "
        for text in texts:
            yield separator + text
            separator = b",\n    "

    def tail(self, table: Table, compat: Compat) -> bytes:
        return b"\n]}\n"


def _encoded(messages: Iterator[bytes], table: Table, compat: Compat) -> Iterator[bytes]:
    encode = _ENCODER.encode
    for record in records(messages, table, compat):
        try:
            text = encode(record).encode()
        except REFUSALS as error:
            raise unsupported(table, record[0], record, lambda value: encode(value).encode()) from error
        yield text


def _fields(table: Table, compat: Compat) -> bytes:
    """`fields` of datastore_search (backend/postgres.py, _result_fields), encoded."""
    info = _whole_comments(table) if compat.release == "2.10" else _infos_in_comments(table)
    fields = []
    for column in table.columns:
        # CKAN puts _id in by hand, and hides the name of its own composite type (_get_fields_types, _unrename_json_field).
        type_ = "int" if column.name == "_id" else "json" if column.type == "nested" else column.type
        field = {"id": column.name, "type": type_}
        if column.name in info:
            field["info"] = info[column.name]
        fields.append(field)
    try:
        return _ENCODER.encode(fields).encode()
    except (UnicodeEncodeError, RecursionError) as error:
        raise UnsupportedValueError(f"{table.resource_id}: CKAN's dump fails on a comment of a column") from error


def _whole_comments(table: Table) -> dict[str, Any]:
    """CKAN 2.10: the comments as JSON, and none at all if one is no JSON (_get_field_info)."""
    try:
        return {column.name: json.loads(column.comment) for column in table.columns if column.comment}
    except ValueError:
        return {}
    except RecursionError as error:
        raise UnsupportedValueError(f"{table.resource_id}: CKAN's dump fails on a comment of a column") from error


def _infos_in_comments(table: Table) -> dict[str, Any]:
    """CKAN 2.11 and later: `description::json -> '_info'`, where there is one. Postgres fails on what is no JSON."""
    infos = {}
    for column in table.columns:
        if column.comment:
            comment = _parsed(column, column.comment, table)
            if isinstance(comment, dict) and _INFO in comment:
                infos[column.name] = comment[_INFO]
    return infos


def _parsed(column: Column, comment: str, table: Table) -> Any:
    """As Postgres parses JSON: no NaN nor Infinity, and no escape that stands for no character of its text type."""
    try:
        parsed = json.loads(comment, parse_constant=_refuse_constant)
        if "\\u0000" in comment or "\\ud" in comment.lower():
            _require_text(_ENCODER.encode(parsed))
    except (ValueError, RecursionError) as error:
        raise UnsupportedValueError(
            f"{table.resource_id}: CKAN's dump fails on the comment of {column.name!r}, which is no JSON"
        ) from error
    return parsed


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _require_text(encoded: str) -> None:
    encoded.encode()  # UnicodeEncodeError for half of a surrogate pair
    if "\\u0000" in encoded:
        raise ValueError("NUL is no character of a text")
