"""CKAN's CSV, compressed with gzip: one gzip member for the header line and one for the rows of each segment (RFC 1952,
2.2: members follow one another, and decompress to their contents put together).

So a segment can be replaced or reused without the others, like a segment of the CSV itself. There is no variant with a byte
order mark: that is for spreadsheets that open CSV, and CKAN has no such format that would have to be matched.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from importlib.metadata import version
from typing import Protocol

from datastore_dumper.formats.base import Compat, Table
from datastore_dumper.formats.csv import CsvFormat

try:
    # As small as zlib at level 6 and twelve times as fast (docs/decisions.md).
    from isal.isal_zlib import compressobj

    _ENCODER = f"isal {version('isal')}"
except ImportError:  # no wheel for this machine
    from zlib import compressobj  # type: ignore[assignment]

    _ENCODER = f"zlib {zlib.ZLIB_RUNTIME_VERSION}"

_LEVEL = 1  # of both libraries: the fastest that looks for repetitions
_GZIP = 16 + zlib.MAX_WBITS
_FEED_BYTES = 256 * 1024  # feeding row by row costs three quarters of the speed


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


class CsvGzFormat(CsvFormat):
    """`application/gzip`, and no Content-Encoding: the file is a gzip file wherever it goes.

    The bytes depend on the rows alone, as long as the same library compresses them: the header that zlib writes for
    itself has no time and no name.
    """

    name = "csv.gz"
    extension = "csv.gz"
    content_type = "application/gzip"

    @property
    def encoder(self) -> str:
        return _ENCODER

    def head(self, table: Table, compat: Compat) -> bytes:
        member = _new_member()
        return member.compress(super().head(table, compat)) + member.flush()

    def rows(self, messages: Iterator[bytes], table: Table, compat: Compat) -> Iterator[bytes]:
        """Nothing at all for a segment without rows."""
        member: _Compressor | None = None
        for batch in _batches(super().rows(messages, table, compat)):
            member = member or _new_member()
            yield member.compress(batch)
        if member is not None:
            yield member.flush()


def _new_member() -> _Compressor:
    return compressobj(_LEVEL, zlib.DEFLATED, _GZIP)


def _batches(rows: Iterator[bytes]) -> Iterator[bytes]:
    batch = bytearray()
    for row in rows:
        batch += row
        if len(batch) >= _FEED_BYTES:
            yield bytes(batch)
            batch.clear()
    if batch:
        yield bytes(batch)
