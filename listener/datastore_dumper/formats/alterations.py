"""What a site may want to be other than CKAN has it: no `_id`, labels for headers. Decided on the columns, before a format
sees them; CKAN's own bytes need none of this.
"""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from dataclasses import replace

from datastore_dumper.formats.base import Column, Compat, Table


def altered(table: Table, compat: Compat) -> Table:
    """The table as a format is to write it, which heeds `compat` (`Format.compat`). No two columns get the same header."""
    columns = table.columns
    if compat.omit_id:
        # An _id that stands alone stays: a file without columns is none.
        columns = tuple(column for column in columns if column.name != "_id") or columns
    if compat.labels:
        columns = _labelled(columns)
    return replace(table, columns=columns)


def label_of(comment: str | None) -> str | None:
    """The label in a column's comment, where CKAN keeps the data dictionary. None: it has none that a header line can have.

    CKAN 2.10 writes the dictionary itself, later releases put it under `_info`, after a space that tells the two apart
    (alter_table and _get_raw_field_info in ckanext/datastore/backend/postgres.py).
    """
    try:
        entry = json.loads(comment or "")
    except (ValueError, RecursionError):
        return None
    if isinstance(entry, dict) and (comment or "").startswith(" "):
        entry = entry.get("_info")
    label = entry.get("label") if isinstance(entry, dict) else None
    if not isinstance(label, str) or any(unicodedata.category(character) in ("Cs", "Cc") for character in label):
        return None
    return label.strip() or None


def _labelled(columns: tuple[Column, ...]) -> tuple[Column, ...]:
    """A label that another column has too, as label or as name, says less than the names: those columns keep theirs."""
    labels = {column.name: label_of(column.comment) for column in columns}
    count = Counter(label for label in labels.values() if label)
    return tuple(
        replace(column, label=label)
        if (label := labels[column.name]) and count[label] == 1 and (label == column.name or label not in labels)
        else column
        for column in columns
    )
