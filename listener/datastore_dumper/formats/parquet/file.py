"""Writes a Parquet file from rows in CSV: batches are parsed, batches make a row group, and only the footer waits for the end."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence

import pyarrow as pa
from pyarrow import csv, parquet

from datastore_dumper.errors import UnsupportedValueError
from datastore_dumper.formats.parquet.columns import ParquetColumn

_BATCH_BYTES = 4 * 1024 * 1024  # of CSV: spreads the cost of a call, and is all that is parsed at a time
_BATCH_ROWS = 65_536
# A row group ends with the batch that fills it: 65,536 to 131,071 rows, fewer if they are wide. Readers skip and share work
# by row groups; the writer holds one in memory.
_GROUP_ROWS = 65_536
_GROUP_BYTES = 32 * 1024 * 1024


def write_file(messages: Iterator[bytes], resource_id: str, columns: Sequence[ParquetColumn]) -> Iterator[bytes]:
    """The bytes of the file. `messages` are rows in CSV, NULL as nothing at all.

    Without rows it is a schema and no row group. Equal rows make equal bytes with the same release of Arrow. Raises
    `UnsupportedValueError`, naming the column.
    """
    schema = pa.schema([column.field for column in columns])
    written = _Written()
    group: list[pa.RecordBatch] = []
    with parquet.ParquetWriter(written, schema, version="2.6", compression="zstd", compression_level=1) as writer:
        for batch in _batches(messages):
            group.append(_parse(batch, resource_id, columns, schema))
            rows = sum(records.num_rows for records in group)
            if rows >= _GROUP_ROWS or sum(records.nbytes for records in group) >= _GROUP_BYTES:
                writer.write_table(pa.Table.from_batches(group), row_group_size=rows)
                group.clear()
                yield written.take()
        if group:
            rows = sum(records.num_rows for records in group)
            writer.write_table(pa.Table.from_batches(group), row_group_size=rows)
    yield written.take()


class _Written(io.RawIOBase):
    """A file to write to, whose bytes are taken out as they come."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._position = 0

    def writable(self) -> bool:
        return True

    def write(self, data: object, /) -> int:
        piece = bytes(memoryview(data))  # type: ignore[arg-type] # Python 3.12 has a type for buffers
        self._pieces.append(piece)
        self._position += len(piece)
        return len(piece)

    def tell(self) -> int:
        return self._position

    def take(self) -> bytes:
        taken = b"".join(self._pieces)
        self._pieces.clear()
        return taken


def _batches(messages: Iterator[bytes]) -> Iterator[bytes]:
    batch: list[bytes] = []
    size = 0
    for message in messages:
        batch.append(message)
        size += len(message)
        if size >= _BATCH_BYTES or len(batch) >= _BATCH_ROWS:
            yield b"".join(batch)
            batch, size = [], 0
    if batch:
        yield b"".join(batch)


def _parse(batch: bytes, resource_id: str, columns: Sequence[ParquetColumn], schema: pa.Schema) -> pa.RecordBatch:
    texts = _parse_csv(batch, resource_id, columns)
    arrays = []
    for column, text in zip(columns, texts, strict=True):
        try:
            arrays.append(column.convert(text))
        except ValueError as error:  # Arrow's ArrowInvalid is one
            raise _unsupported(resource_id, f'column "{column.name}"', error) from error
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _parse_csv(batch: bytes, resource_id: str, columns: Sequence[ParquetColumn]) -> list[pa.StringArray]:
    names = [str(number) for number in range(len(columns))]
    read = csv.ReadOptions(
        use_threads=False,
        block_size=len(batch) + 1,  # one block, however long a row is
        column_names=names,
    )
    parse = csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False)
    convert = csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()),
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    try:
        table = csv.read_csv(pa.BufferReader(batch), read, parse, convert)
    except pa.ArrowInvalid as error:
        # Postgres' CSV is well formed. What may be wrong is text that is not UTF-8, in a database in SQL_ASCII.
        found = re.search(r"column #(\d+)", str(error))
        where = f'column "{columns[int(found[1])].name}"' if found else "a row"
        raise _unsupported(resource_id, where, error) from error
    return [column.combine_chunks() for column in table.columns]


def _unsupported(resource_id: str, where: str, error: Exception) -> UnsupportedValueError:
    return UnsupportedValueError(f"{resource_id}: {where} has a value that Parquet cannot hold: {error}")
