"""Rows as JSON arrays, the way CKAN gets them from Postgres before it writes JSON or XML, and how it decodes them.

CKAN asks for one text with all rows of a page. We ask for a row in each message of a COPY, which gives the same values.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
from psycopg import sql

from datastore_dumper.errors import UnsupportedValueError
from datastore_dumper.formats.base import Compat, Table
from datastore_dumper.formats.columns import json_value

Record = list[Any]

REFUSALS = (ValueError, RecursionError, msgspec.MsgspecError)
"""What decoders and encoders raise; UnicodeError and JSONDecodeError are ValueErrors."""

# A comma between columns makes CSV a JSON array without its brackets, if nothing is quoted. Something has to be: no byte
# below 0x20 but white space stands in JSON, so this one can be taken out again whatever the values are.
_QUOTE = "\x01"
_QUOTE_BYTE = _QUOTE.encode()
_WHITE_SPACE = " \t\n\r"  # RFC 8259, section 2


def copy_records(table: Table, compat: Compat, where: sql.Composable) -> sql.Composed:
    """A COPY of the rows for `json_text`."""
    return sql.SQL(
        "COPY (SELECT {} FROM {} WHERE {} ORDER BY _id) TO STDOUT (FORMAT csv, QUOTE {}, NULL 'null')"
    ).format(
        sql.SQL(", ").join(json_value(column, compat) for column in table.columns), table.identifier, where, _QUOTE
    )


def json_text(message: bytes) -> bytes:
    """The row in a message of `copy_records` as a JSON array, the columns in their order."""
    return b"[" + message[:-1].replace(_QUOTE_BYTE, b"") + b"]"


def records(messages: Iterator[bytes], table: Table, compat: Compat) -> Iterator[Record]:
    """The rows as Python values, decoded as that release of CKAN does.

    2.10 has `simplejson.loads` (ckan/lib/lazyjson.py), to which `json.loads` is equal; later releases have
    `msgspec.json.decode` (backend/postgres.py, search_data). Raises `UnsupportedValueError` where they fail.
    """
    decode = _decoder(compat)
    for message in messages:
        text = json_text(message)
        try:
            record = decode(text)
        except REFUSALS as error:
            raise _undecodable(text, table, decode) from error
        yield record


def unsupported(
    table: Table, row_id: object, values: Sequence[Any] = (), check: Callable[[Any], object] = str
) -> Exception:
    """The error for a row on which CKAN fails. It names the first column whose value `check` refuses."""
    where = f"in the row with _id {row_id}"
    for column, value in zip(table.columns, values, strict=False):
        try:
            check(value)
        except REFUSALS as error:
            where = f"on column {column.name!r} {where}: {_reason(error)}"
            break
    return UnsupportedValueError(
        f"{table.resource_id}: CKAN's own dump fails {where}",
        hint="Mend the value, or take the format out of export.formats.",
    )


def _undecodable(text: bytes, table: Table, decode: Callable[[bytes], object]) -> Exception:
    values = _split(text.decode())
    return unsupported(table, values[0], values, lambda value: decode(value.encode()))


def _split(text: str) -> list[str]:
    """The texts of an array's values, as far as they can be told apart; more lenient than any decoder of CKAN."""
    scan = json.JSONDecoder(parse_int=str).raw_decode
    values: list[str] = []
    at = 1
    try:
        while at < len(text):
            at = len(text) - len(text[at:].lstrip(_WHITE_SPACE))
            end = scan(text, at)[1]
            values.append(text[at:end])
            at = len(text) - len(text[end:].lstrip(_WHITE_SPACE)) + 1  # the comma, or the bracket at the end
    except RecursionError:
        pass
    return values


def _reason(error: Exception) -> str:
    # The message of a UnicodeError has the value in it when shown, its reason has not.
    return error.reason if isinstance(error, UnicodeEncodeError) else str(error)


def _decoder(compat: Compat) -> Callable[[bytes], Any]:
    if compat.release != "2.10":
        return msgspec.json.Decoder().decode
    decode = json.JSONDecoder().decode
    return lambda text: decode(text.decode())
