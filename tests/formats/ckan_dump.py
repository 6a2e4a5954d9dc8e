"""CKAN's dump told again, without our code: its queries, the libraries that it decodes and encodes with, its writers.

Follows ckanext/datastore/backend/postgres.py (datastore_search, search_data, _get_field_info) and writer.py of CKAN 2.10,
2.11 and 2.12. Raises whatever the libraries raise where CKAN's dump breaks off.
"""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from collections.abc import Iterable
from typing import Any
from xml.etree.ElementTree import Element, ElementTree, SubElement

import msgspec
import psycopg
import simplejson
from psycopg import sql
from psycopg.rows import TupleRow

from datastore_dumper.formats import Compat

Connection = psycopg.Connection[TupleRow]
Fields = list[dict[str, Any]]


def ckan_dump(connection: Connection, resource_id: str, name: str, compat: Compat) -> bytes:
    """The file that CKAN sends for `csv`, `csv-bom`, `tsv` and so on."""
    format_name = name.removesuffix("-bom")
    types = _types(connection, resource_id)
    fields = _fields(connection, resource_id, types, compat)
    bom = b"\xef\xbb\xbf" if name.endswith("-bom") else b""
    if format_name in ("csv", "tsv"):
        return bom + _table_text(connection, resource_id, types, compat, "," if format_name == "csv" else "\t")
    columns = sql.SQL(", " if format_name == "xml" else " || ',' || ").join(
        _expression(column, type_, format_name, compat) for column, type_ in types.items()
    )
    table = sql.Identifier(resource_id)
    if format_name == "xml":
        # The name matters where a column has the same.
        row = sql.Identifier("select_cols" if compat.release == "2.12" else "j")
        query = sql.SQL(
            "SELECT array_to_json(array_agg({row}))::text FROM (SELECT {} FROM (SELECT * FROM {} ORDER BY _id) z) {row}"
        ).format(columns, table, row=row)
    else:
        query = sql.SQL(
            "SELECT '[' || array_to_string(array_agg(j.v), ',') || ']' "
            "FROM (SELECT '[' || {} || ']' v FROM (SELECT * FROM {} ORDER BY _id) z) j"
        ).format(columns, table)
    found = connection.execute(query).fetchone()
    assert found is not None
    records = _decode(found[0], compat) if found[0] is not None else []
    return bom + (_xml if format_name == "xml" else _json)(fields, records, compat)


def _types(connection: Connection, resource_id: str) -> dict[str, str]:
    cursor = connection.execute(sql.SQL("SELECT * FROM {} LIMIT 1").format(sql.Identifier(resource_id)))
    names = dict(connection.execute("SELECT oid::bigint, typname::text FROM pg_type").fetchall())
    description = cursor.description or []
    return {"_id": "int", **{c.name: names[c.type_code] for c in description if not c.name.startswith("_")}}


def _fields(connection: Connection, resource_id: str, types: dict[str, str], compat: Compat) -> Fields:
    value = "d.description" if compat.release == "2.10" else "(d.description::json -> '_info')::text"
    comments = connection.execute(
        f"SELECT a.attname::text, {value} FROM pg_class c, pg_attribute a, pg_description d WHERE a.attrelid = c.oid "
        "AND d.objoid = c.oid AND d.objsubid = a.attnum AND c.relname = %s AND a.attnum > 0".encode(),
        [resource_id],
    ).fetchall()
    try:
        info = {name: json.loads(text) for name, text in comments if text or compat.release == "2.10"}
    except ValueError:
        info = {}
    fields = []
    for name, type_ in types.items():
        field = {"id": name, "type": "json" if type_ == "nested" else type_}
        if name in info:
            field["info"] = info[name]
        fields.append(field)
    return fields


def _expression(name: str, type_: str, format_name: str, compat: Compat) -> sql.Composed:
    milliseconds = ".MS" if compat.release == "2.12" and compat.ms_in_timestamp else ""
    pattern = 'to_char({0}, \'YYYY-MM-DD"T"HH24:MI:SS' + milliseconds + "')"
    text = "coalesce(to_json({0}), 'null')" if format_name == "json" else "{0}"
    if type_ == "nested":
        text = "coalesce(({0}).json, 'null')"
    elif type_ == "timestamp":
        text = f"coalesce(to_json({pattern}), 'null')" if format_name == "json" else pattern
    elif type_.startswith("_"):
        text = "coalesce(array_to_json({0}), 'null')"
    if format_name == "xml":
        text += " AS {0}"
    return sql.SQL(text).format(sql.Identifier(name))  # type: ignore[arg-type]


def _decode(text: str, compat: Compat) -> list[Any]:
    decoded = simplejson.loads(text, allow_nan=True) if compat.release == "2.10" else msgspec.json.decode(text)
    assert isinstance(decoded, list)
    return decoded


def _table_text(
    connection: Connection, resource_id: str, types: dict[str, str], compat: Compat, delimiter: str
) -> bytes:
    head = io.StringIO()
    csv.writer(head, dialect="excel" if delimiter == "," else "excel-tab").writerow(types)
    query = sql.SQL("COPY (SELECT {} FROM (SELECT * FROM {} ORDER BY _id) z) TO STDOUT csv DELIMITER {}").format(
        sql.SQL(", ").join(_expression(name, type_, "csv", compat) for name, type_ in types.items()),
        sql.Identifier(resource_id),
        delimiter,
    )
    with connection.cursor() as cursor, cursor.copy(query) as copy:
        return head.getvalue().encode() + b"".join(bytes(data) for data in copy)


def _dumps(value: Any, compat: Compat) -> str:
    # simplejson 3.17 of CKAN 2.10 allows NaN by default, 3.19 and later do not.
    text = simplejson.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=compat.release == "2.10")
    assert isinstance(text, str)
    return text


def _json(fields: Fields, records: Iterable[Any], compat: Compat) -> bytes:
    text = f'{{\n  "fields": {_dumps(fields, compat)},\n  "records": ['
    text += ",".join(f"\n    {_dumps(record, compat)}" for record in records)
    return (text + "\n]}\n").encode()


def _xml(fields: Fields, records: Iterable[Any], compat: Compat) -> bytes:
    output = io.BytesIO()
    output.write(b'<data xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">\n')
    names = xml_names([field["id"] for field in fields][1:], compat)
    for record in records:
        write_xml_row(output, record["_id"], [(names[id_], record[id_]) for id_ in names])
    output.write(b"</data>\n")
    return output.getvalue()


def xml_names(columns: list[str], compat: Compat) -> dict[str, str]:
    if compat.release != "2.12":
        return {column: column for column in columns}
    names: dict[str, str] = {}
    for column in columns:
        clean = re.sub(r"(?i)^(\d*xml\d*|\d+)", "", unicodedata.normalize("NFC", column))
        clean = re.sub(r"^[\d.-]+", "", re.sub(r"[^\w_.-]", "", re.sub(r"\s+", "_", clean)))
        candidates = (clean, *(f"{clean}_{number}" for number in range(len(columns))))
        names[column] = next(name for name in candidates if name not in names.values())
    return names


def write_xml_row(output: io.BytesIO, row_id: Any, values: Iterable[tuple[str, Any]]) -> None:
    row = Element("row")
    row.attrib["_id"] = str(row_id)
    for name, value in values:
        _node(row, name, value, None)
    ElementTree(row).write(output, encoding="utf-8")
    output.write(b"\n")


def _node(parent: Element, tag: str, value: Any, key: object) -> None:
    node = SubElement(parent, tag)
    if value is None:
        node.attrib["xsi:nil"] = "true"
    elif isinstance(value, (list, dict)):
        for inner, item in value.items() if isinstance(value, dict) else enumerate(value):
            _node(node, "value", item, inner)
    else:
        node.text = str(value)
    if key is not None:
        node.attrib["key"] = str(key)
