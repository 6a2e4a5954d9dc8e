"""What the demo checks after every step, by ways of its own: the published bytes against CKAN's own query, and `lookup()`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from datastore_dumper.database import Connection
from datastore_dumper.demo.data import HEADER
from datastore_dumper.errors import DumperError
from datastore_dumper.sqlfiles import query

_BOM = b"\xef\xbb\xbf"
_BLOCK_BYTES = 1 << 20


class CheckFailedError(DumperError):
    """The demo saw something that must not be."""


@dataclass(frozen=True)
class Found:
    """What `lookup()` says of a resource in one format."""

    storage_key: str
    bytes: int
    rows: int
    fresh: bool


@dataclass(frozen=True)
class Dump:
    """A whole dump: how many rows and bytes, and their SHA-256."""

    rows: int
    bytes: int
    sha256: str


def lookup(reader: Connection, format_name: str = "csv") -> Found | None:
    """Ask as the CKAN plugin does, with CKAN's read role. None: there is no file."""
    row = reader.execute(query("demo_lookup"), {"format": format_name}).fetchone()
    return Found(*row) if row else None


def require(condition: bool, failure: str) -> None:
    """Raise `CheckFailedError` unless the condition holds."""
    if not condition:
        raise CheckFailedError(failure)


def verify_files(reader: Connection, directory: Path) -> Dump:
    """Compare the files in both formats, byte for byte by their hashes, with the table as CKAN's own query shows it now.

    Returns the plain file's figures. Raises `CheckFailedError` at the first difference.
    """
    plain: Dump | None = None
    for format_name, head in (("csv", b""), ("csv-bom", _BOM)):
        found = lookup(reader, format_name)
        if found is None:
            raise CheckFailedError(f"lookup() has no file in format {format_name}")
        require(found.fresh, f"lookup() calls the file in format {format_name} stale although nothing changed since")
        wanted = _as_ckan_sends_it(reader, head)
        path = directory / found.storage_key
        actual = _sha256(path)
        require(
            actual == wanted.sha256, f"{path} is not what CKAN's query sends: SHA-256 {actual}, not {wanted.sha256}"
        )
        require(
            (found.rows, found.bytes, path.stat().st_size) == (wanted.rows, wanted.bytes, wanted.bytes),
            f"lookup() says {found.rows} rows and {found.bytes} bytes; they are {wanted.rows} and {wanted.bytes}",
        )
        plain = plain or wanted
    assert plain is not None
    return plain


def _as_ckan_sends_it(reader: Connection, head: bytes) -> Dump:
    """Header line by Python's csv module, hence CR LF; rows as Postgres ends them (CKAN: ckanext/datastore/writer.py)."""
    header = head + f"_id,{HEADER}\r\n".encode()
    digest = hashlib.sha256(header)
    length, rows = len(header), 0
    with reader.cursor() as cursor, cursor.copy(query("demo_copy_as_ckan")) as copy:
        for line in copy:
            digest.update(line)
            length += len(line)
            rows += 1
    return Dump(rows, length, digest.hexdigest())


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
