"""What a format is: the query that reads a segment, the bytes before and after the rows, and the content type.

A format knows nothing of snapshots, files or storage. Those that CKAN can send must give CKAN's bytes, for the release
named by `Compat`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace

from psycopg import sql

BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Compat:
    """The CKAN release whose bytes are wanted, and what the site wants to be different in them."""

    release: str = "2.12"
    """"2.10", "2.11" or "2.12"."""
    ms_in_timestamp: bool = True
    """CKAN 2.12's setting ckan.datastore.ms_in_timestamp; older releases have none and send whole seconds."""
    labels: bool = False
    """The header line has the data dictionary's labels where columns have one."""
    omit_id: bool = False
    """The column `_id` is left out."""

    def __str__(self) -> str:
        """As in `dump_status.compat`, where the CKAN plugin compares it with what is running: `2.12-noms+labels+omit_id`."""
        release = self.release if self.release != "2.12" or self.ms_in_timestamp else "2.12-noms"
        return release + "+labels" * self.labels + "+omit_id" * self.omit_id

    @property
    def milliseconds(self) -> bool:
        return self.release == "2.12" and self.ms_in_timestamp


@dataclass(frozen=True)
class Column:
    """A column that CKAN shows: all but those whose name starts with an underscore, and `_id` first."""

    name: str
    type: str
    """pg_type.typname, by which CKAN tells types apart; arrays start with an underscore."""
    comment: str | None = None
    typmod: int = -1
    """pg_attribute.atttypmod: of a numeric, or of an array of them, precision and scale; -1: none."""
    dimensions: int = 0
    """pg_attribute.attndims: of an array as it was declared, which Postgres does not enforce."""
    label: str | None = None
    """What stands in the header line in place of the name (`alterations`)."""

    @property
    def header(self) -> str:
        return self.name if self.label is None else self.label


@dataclass(frozen=True)
class Table:
    """What a format may know about a table."""

    resource_id: str
    columns: tuple[Column, ...]

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier("public", self.resource_id)


class Format(ABC):
    """One way to write a table. Subclasses are stateless; one instance serves all tables and threads."""

    name: str
    extension: str
    content_type: str
    settings: tuple[tuple[str, str], ...] = ()
    """Settings of Postgres that `copy_query` relies on, in place of those of CKAN's read role."""
    alterable = False
    """`Compat.labels` and `Compat.omit_id` are for this format too: it writes each column's `header`."""
    joiner = b""
    """What stands between two segments that have rows."""
    whole = False
    """The file is more than head, segments and tail put together: it is made in one piece, `rows` yields all of it."""

    @property
    def encoder(self) -> str:
        """Name and release of the library without which equal rows make other bytes; empty: there is none."""
        return ""

    @property
    def verbatim(self) -> bool:
        """Postgres writes the rows as they stand in the file: `rows` is the default and need not be asked."""
        return type(self).rows is Format.rows

    def compat(self, wanted: Compat) -> Compat:
        """`wanted` without the options that leave this format's files as they are, so that they still pass for CKAN's."""
        return wanted if self.alterable else replace(wanted, labels=False, omit_id=False)

    @abstractmethod
    def copy_query(self, table: Table, compat: Compat, where: sql.Composable) -> sql.Composed:
        """A COPY .. TO STDOUT that sends one message for each row of the segment, in the order of `_id`.

        Raises `UnsupportedTypeError` for a column that this format cannot write."""

    @abstractmethod
    def head(self, table: Table, compat: Compat) -> bytes:
        """What stands before the first row."""

    def rows(self, messages: Iterator[bytes], table: Table, compat: Compat) -> Iterator[bytes]:
        """The rows of a segment as they stand in the file, from what `copy_query` sends: one message for each row.

        The default is for formats that Postgres writes itself. Raises `UnsupportedValueError` for a value that this format
        cannot write."""
        return messages

    def tail(self, table: Table, compat: Compat) -> bytes:
        """What stands after the last row."""
        return b""


@dataclass(frozen=True)
class FileFormat:
    """A format as it is published: plain, or with a byte order mark as CKAN's own download buttons ask for."""

    format: Format
    bom: bool

    @property
    def name(self) -> str:
        return f"{self.format.name}-bom" if self.bom else self.format.name

    def head(self, table: Table, compat: Compat) -> bytes:
        return (BOM if self.bom else b"") + self.format.head(table, compat)
