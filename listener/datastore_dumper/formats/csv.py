"""CSV, byte for byte as CKAN sends it: the header line by Python's csv module, the rows by Postgres."""

from __future__ import annotations

import csv
import io

from psycopg import sql

from datastore_dumper.formats.base import Column, Compat, Format, Table


class CsvFormat(Format):
    """`text/csv` of CKAN's DataStore dump (ckanext/datastore/writer.py, csv_writer; backend/postgres.py, search_data)."""

    name = "csv"
    extension = "csv"
    content_type = "text/csv; charset=utf-8"
    delimiter = ","

    def copy_query(self, table: Table, compat: Compat, where: sql.Composable) -> sql.Composed:
        return sql.SQL("COPY (SELECT {} FROM {} WHERE {} ORDER BY _id) TO STDOUT (FORMAT csv, DELIMITER {})").format(
            sql.SQL(", ").join(text_value(column, compat) for column in table.columns),
            table.identifier,
            where,
            self.delimiter,
        )

    def head(self, table: Table, compat: Compat) -> bytes:
        """Ends in CR LF, as Python writes it; the rows end in LF, as Postgres does. CKAN sends both as they come."""
        line = io.StringIO(newline="")
        csv.writer(line, delimiter=self.delimiter).writerow(column.name for column in table.columns)
        return line.getvalue().encode()


def text_value(column: Column, compat: Compat) -> sql.Composed:
    """The expression whose text CKAN sends for a column (ckanext/datastore/backend/postgres.py, datastore_search)."""
    name = sql.Identifier(column.name)
    if column.type == "nested":
        return sql.SQL("coalesce(({}).json, 'null')").format(name)
    if column.type == "timestamp":
        pattern = 'YYYY-MM-DD"T"HH24:MI:SS.MS' if compat.milliseconds else 'YYYY-MM-DD"T"HH24:MI:SS'
        return sql.SQL("to_char({}, {})").format(name, pattern)
    if column.type.startswith("_"):
        return sql.SQL("coalesce(array_to_json({}), 'null')").format(name)
    return sql.Composed([name])
