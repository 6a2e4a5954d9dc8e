"""Parquet, for those who compute with the data: exact values with types. The one format whose bytes are not CKAN's.

Types and conversions are in `columns`, the file in `file`. Both need the extra `parquet` and are imported when they are
needed, so that a configuration which asks for Parquet without it gets an answer that helps.
"""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from datastore_dumper.errors import ConfigError
from datastore_dumper.formats.base import Compat, Format, Table


class ParquetFormat(Format):
    """One file, read as CSV: the one text format that tells NULL from an empty string and that Arrow parses."""

    name = "parquet"
    extension = "parquet"
    content_type = "application/vnd.apache.parquet"
    whole = True  # the footer lists every row group with its offset
    # Values travel as text, so the text must have every digit; CKAN's read role may have it shorter.
    settings = (("extra_float_digits", "1"), ("timezone", "UTC"), ("bytea_output", "hex"))

    def __init__(self) -> None:
        """Raises `ConfigError` without the extra `parquet`."""
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise ConfigError(
                f"The format 'parquet' needs pyarrow, which cannot be imported: {error}",
                hint="pip install 'ckanext-datastore-dumper[listener,parquet]', or take 'parquet' out of export.formats.",
            ) from error

    @property
    def encoder(self) -> str:
        import pyarrow as pa

        return f"pyarrow {pa.__version__}"

    def copy_query(self, table: Table, compat: Compat, where: sql.Composable) -> sql.Composed:
        from datastore_dumper.formats.parquet.columns import parquet_columns

        return sql.SQL("COPY (SELECT {} FROM {} WHERE {} ORDER BY _id) TO STDOUT (FORMAT csv)").format(
            sql.SQL(", ").join(column.expression for column in parquet_columns(table)), table.identifier, where
        )

    def head(self, table: Table, compat: Compat) -> bytes:
        return b""

    def rows(self, messages: Iterator[bytes], table: Table, compat: Compat) -> Iterator[bytes]:
        """The whole file, a row group at a time."""
        from datastore_dumper.formats.parquet.columns import parquet_columns
        from datastore_dumper.formats.parquet.file import write_file

        return write_file(messages, table.resource_id, parquet_columns(table))
