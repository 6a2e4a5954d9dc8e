"""XML, byte for byte as CKAN sends it: what xml.etree.ElementTree writes for each row, made without building a tree."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from xml.etree import ElementTree

from psycopg import sql

from datastore_dumper.formats.base import Compat, Format, Table
from datastore_dumper.formats.records import Record, copy_records, records, unsupported

# CKAN's rules for an element's name from 2.12 on (writer.py, xml_element_name_rules), one after the other.
_NAME_RULES = (
    (re.compile(r"^(\d*xml\d*|\d+)", re.IGNORECASE), ""),
    (re.compile(r"\s+"), "_"),
    (re.compile(r"[^\w_.-]"), ""),
    (re.compile(r"^[\d.-]+"), ""),
)


class XmlFormat(Format):
    """`text/xml` of CKAN's DataStore dump (ckanext/datastore/writer.py, xml_writer and XMLWriter).

    Before CKAN 2.12 the names of columns are the names of elements even where XML has no such name.
    """

    name = "xml"
    extension = "xml"
    content_type = "text/xml; charset=utf-8"

    def copy_query(self, table: Table, compat: Compat, where: sql.Composable) -> sql.Composed:
        return copy_records(table, compat, where)

    def head(self, table: Table, compat: Compat) -> bytes:
        return b'<data xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">\n'

    def rows(self, messages: Iterator[bytes], table: Table, compat: Compat) -> Iterator[bytes]:
        write = row_writer([column.name for column in table.columns], compat)
        for record in records(messages, table, compat):
            try:
                row = write(record)
            except (ValueError, TypeError, RecursionError) as error:
                raise unsupported(table, record[0]) from error
            # ElementTree's way with what UTF-8 cannot hold: half of a surrogate pair, which CKAN 2.10 lets through.
            yield row.encode(errors="xmlcharrefreplace")

    def tail(self, table: Table, compat: Compat) -> bytes:
        return b"</data>\n"


def row_writer(columns: list[str], compat: Compat) -> Callable[[Record], str]:
    """A function from a record to its `<row>` with the line's end. `columns` begin with `_id`."""
    names = columns[1:] if compat.release in ("2.10", "2.11") else element_names(columns[1:])
    if any(name.startswith("{") for name in names):
        # ElementTree takes it for a name in a namespace, and makes up a prefix.
        return partial(_row_by_tree, names)
    return partial(_row, [(f"<{name}>", f"</{name}>", f"<{name} />", f'<{name} xsi:nil="true" />') for name in names])


def element_names(columns: list[str]) -> list[str]:
    """The names of elements in CKAN 2.12, each once: the second `a_b` is `a_b_0`."""
    names: list[str] = []
    for column in columns:
        cleaned = unicodedata.normalize("NFC", column)
        for pattern, replacement in _NAME_RULES:
            cleaned = pattern.sub(replacement, cleaned)
        name = cleaned
        number = 0
        while name in names:
            name = f"{cleaned}_{number}"
            number += 1
        names.append(name)
    return names


def _row(tags: list[tuple[str, str, str, str]], record: Record) -> str:
    pieces = ['<row _id="', _attribute(str(record[0])), '">' if tags else '" />']
    values = iter(record)
    next(values)
    for (start, end, empty, nil), value in zip(tags, values, strict=True):
        if value is None:
            pieces.append(nil)
        elif value.__class__ is list or value.__class__ is dict:
            pieces += (start, _values(value), end) if value else (empty,)
        elif text := value if value.__class__ is str else str(value):
            if "&" in text or "<" in text or ">" in text:
                text = _text(text)
            pieces += (start, text, end)
        else:
            pieces.append(empty)
    pieces.append("</row>\n" if tags else "\n")
    return "".join(pieces)


def _values(container: list[Any] | dict[str, Any]) -> str:
    """What is in a list or object: an element for each value, with its index or name."""
    pieces = []
    for key, value in container.items() if isinstance(container, dict) else enumerate(container):
        attribute = f'key="{_attribute(str(key))}"'
        if value is None:
            pieces.append(f'<value xsi:nil="true" {attribute} />')
            continue
        inner = _values(value) if isinstance(value, list | dict) else _text(str(value))
        pieces.append(f"<value {attribute}>{inner}</value>" if inner else f"<value {attribute} />")
    return "".join(pieces)


def _text(text: str) -> str:
    """xml.etree.ElementTree, _escape_cdata."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _attribute(text: str) -> str:
    """xml.etree.ElementTree, _escape_attrib."""
    return _text(text).replace('"', "&quot;").replace("\r", "&#13;").replace("\n", "&#10;").replace("\t", "&#09;")


def _row_by_tree(names: list[str], record: Record) -> str:
    """CKAN's own way."""
    root = ElementTree.Element("row", {"_id": str(record[0])})
    for name, value in zip(names, record[1:], strict=True):
        _add(root, name, value, {})
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _add(parent: ElementTree.Element, name: str, value: Any, attributes: dict[str, str]) -> None:
    if value is None:
        attributes = {"xsi:nil": "true", **attributes}
    element = ElementTree.SubElement(parent, name, attributes)
    if isinstance(value, list | dict):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            _add(element, "value", item, {"key": str(key)})
    elif value is not None:
        element.text = str(value)
