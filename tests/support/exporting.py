"""Exports a table of a test's database in a format, under a snapshot as the daemon does."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from datastore_dumper.database import Connection
from datastore_dumper.export import SegmentFile, SegmentReader, hold_snapshot
from datastore_dumper.formats import Compat, file_format
from datastore_dumper.install import install
from datastore_dumper.plan import Fresh
from tests.support.installation import ROLES, handle
from tests.support.postgres import ScratchDatabase

# What an administrator may have set for CKAN's read role; no format's values may lose anything by it.
UNFRIENDLY_SETTINGS = (
    ("extra_float_digits", "-3"),
    ("timezone", "Asia/Kolkata"),
    ("bytea_output", "escape"),
    ("intervalstyle", "iso_8601"),
)
WHOLE = (Fresh(None, None),)


class Exporter:
    """Exports tables of one database into files of one directory."""

    def __init__(self, database: ScratchDatabase, directory: Path, connections: tuple[Connection, ...]) -> None:
        self.database = database
        self.writer, self._holder, self._segment, self._witness = connections
        self._directory = directory
        self._numbers = itertools.count()

    def segments(self, resource_id: str, format_name: str, parts: tuple[Fresh, ...] = WHOLE) -> list[SegmentFile]:
        """Segments of one snapshot."""
        format_ = file_format(format_name).format
        row = self.writer.execute("SELECT to_regclass(quote_ident(%s))::oid::int", [resource_id]).fetchone()
        assert row is not None
        with hold_snapshot(self._holder, row[0]) as state:
            reader = SegmentReader(
                self._segment, self._witness, state, Compat(), UNFRIENDLY_SETTINGS, 5, threading.Event()
            )
            return [
                reader.export(format_, part, self._directory / f"segment-{next(self._numbers)}", lambda _: None)
                for part in parts
            ]

    def file(self, resource_id: str, format_name: str, parts: tuple[Fresh, ...] = WHOLE) -> Path:
        """The file, put together as publishing does."""
        wanted = file_format(format_name)
        segments = self.segments(resource_id, format_name, parts)
        row = self.writer.execute("SELECT to_regclass(quote_ident(%s))::oid::int", [resource_id]).fetchone()
        assert row is not None
        with hold_snapshot(self._holder, row[0]) as state:
            head = wanted.head(state.table, Compat())
            tail = wanted.format.tail(state.table, Compat())
        path = self._directory / f"file-{next(self._numbers)}.{wanted.format.extension}"
        path.write_bytes(b"".join([head, *(segment.path.read_bytes() for segment in segments), tail]))
        return path


@pytest.fixture
def exporter(database: ScratchDatabase, tmp_path: Path) -> Iterator[Exporter]:
    """For tables of a new DataStore."""
    install(handle(database), ROLES)
    with ExitStack() as stack:
        writer = stack.enter_context(database.connect("ckan_write"))
        others = [stack.enter_context(handle(database, "dumper").connect(purpose)) for purpose in "abc"]
        yield Exporter(database, tmp_path, (writer, *others))
