"""What happens to the table before a file is made: the columns of the comparison. All by CKAN's write role."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from psycopg import sql

from bench.tables import COLUMNS, RESOURCE_ID, append, rows_query
from tests.support.postgres import Connection

_TABLE = sql.Identifier(RESOURCE_ID)
_CHUNK_ROWS = 100_000  # xloader's ckanext.xloader.search_update_chunks
_COPY_BYTES = 1 << 20
_FULL_TEXT = "UPDATE {} SET _full_text = array_to_tsvector(ARRAY['loaded', station]) WHERE _id BETWEEN {} AND {}"


@dataclass(frozen=True)
class Load:
    """How large the table is, how many commits are a burst, how long the product waits for the end of a change that has
    several, and the file that is loaded."""

    rows: int
    commits: int
    quiet_seconds: float
    file: Path


@dataclass(frozen=True)
class Change:
    """`commit` does it, `None` where the file is the first; `jobs` is how often CKAN's API would be called for it.
    `has_end` says that there are several commits, after which it has to be quiet."""

    name: str
    title: str
    commit: Callable[[Connection, Load, int], None] | None
    jobs: Callable[[Load], int] = lambda load: 1
    has_end: bool = False

    def quiet_seconds(self, load: Load) -> float:
        return load.quiet_seconds if self.has_end else 0


def _update_row(writer: Connection, load: Load, run: int) -> None:
    writer.execute(sql.SQL("UPDATE {} SET remark = {} WHERE _id = {}").format(_TABLE, f"run {run}", load.rows // 2))


def _append(writer: Connection, load: Load, run: int) -> None:
    append(writer, load.rows + 1, load.rows + max(load.rows // 100, 1))


def _burst(writer: Connection, load: Load, run: int) -> None:
    """One row each, all over the table."""
    stride = max(load.rows // load.commits, 1)
    update = sql.SQL("UPDATE {} SET people = {} WHERE _id = {}")
    for number in range(load.commits):
        writer.execute(update.format(_TABLE, run * load.commits + number, 1 + number * stride))


def _reload(writer: Connection, load: Load, run: int) -> None:
    """The statements of ckanext-xloader 2 (ckanext/xloader/loader.py) for a file with the same columns, as they come.
    What it fills `_full_text` with is less here: that is work of the writer, and no way to a file sees it."""
    with writer.transaction():
        writer.execute("SET LOCAL lock_timeout = '15s'")
        writer.execute(sql.SQL("TRUNCATE TABLE {} RESTART IDENTITY").format(_TABLE))
    writer.execute(sql.SQL("ALTER TABLE {} DISABLE TRIGGER zfulltext").format(_TABLE))
    columns = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
    copy_in = sql.SQL("COPY {} ({}) FROM STDIN WITH (FORMAT csv)").format(_TABLE, columns)
    with writer.transaction(), writer.cursor().copy(copy_in) as copy, load.file.open("rb") as file:
        while piece := file.read(_COPY_BYTES):
            copy.write(piece)
    with writer.transaction():
        for first in range(1, load.rows + 1, _CHUNK_ROWS):
            writer.execute(sql.SQL(_FULL_TEXT).format(_TABLE, first, first + _CHUNK_ROWS - 1))
    writer.execute(sql.SQL("ANALYZE {}").format(_TABLE))
    writer.execute(sql.SQL("ALTER TABLE {} ENABLE TRIGGER zfulltext").format(_TABLE))


FIRST = Change("first", "First dump", None)
# The last one leaves the table as the first one found it.
CHANGES = (
    FIRST,
    Change("row", "1 row changed", _update_row),
    Change("append", "1 % appended", _append),
    Change("burst", "Burst of commits", _burst, jobs=lambda load: load.commits, has_end=True),
    Change("reload", "Reload by xloader", _reload, has_end=True),
)


def write_file(connection: Connection, load: Load) -> None:
    """The file that is loaded: the rows that the table has at first."""
    columns = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
    query = sql.SQL("COPY (SELECT {} FROM ({}) AS r) TO STDOUT WITH (FORMAT csv)").format(
        columns, rows_query(1, load.rows)
    )
    with load.file.open("wb") as file, connection.cursor().copy(query) as copy:
        for piece in copy:
            file.write(piece)
