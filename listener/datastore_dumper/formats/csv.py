"""CSV and TSV, byte for byte as CKAN sends them: the header line by Python's csv module, the rows by Postgres."""

from __future__ import annotations

import csv
import io

from psycopg import sql

from datastore_dumper.formats.base import Compat, Format, Table
from datastore_dumper.formats.columns import text_value


class CsvFormat(Format):
    """`text/csv` of CKAN's DataStore dump (ckanext/datastore/writer.py, csv_writer; backend/postgres.py, search_data)."""

    name = "csv"
    extension = "csv"
    content_type = "text/csv; charset=utf-8"
    alterable = True
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
        csv.writer(line, delimiter=self.delimiter).writerow(column.header for column in table.columns)
        return line.getvalue().encode()


class TsvFormat(CsvFormat):
    """`text/tab-separated-values`: CSV with tabs, quotes and all, and not what Postgres calls the text format."""

    name = "tsv"
    extension = "tsv"
    content_type = "text/tab-separated-values; charset=utf-8"
    delimiter = "\t"
