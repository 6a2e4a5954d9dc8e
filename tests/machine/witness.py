"""What was committed, in the order in which it was, and whether published files and `lookup` agree with it."""

from __future__ import annotations

import gzip
from collections.abc import Sequence

import pytest
from psycopg import errors, sql

from datastore_dumper.errors import ObjectMissingError
from datastore_dumper.storage.base import Storage
from tests.formats.ckan_dump import ckan_dump
from tests.machine.stepping import COMPAT, FORMATS
from tests.support.postgres import ScratchDatabase

_BOM = b"\xef\xbb\xbf"

State = dict[str, bytes] | None
"""The files of a table as CKAN would send them, csv and json. None: there is no DataStore table of that name."""


class Witness:
    """Sees every committed state of the tables, and every published file."""

    def __init__(self, database: ScratchDatabase, storage: Storage, names: Sequence[str]) -> None:
        self._names = names
        self._storage = storage
        self._admin = database.connect()
        self._admin.prepare_threshold = None  # tables change under what is asked again and again
        self._admin.execute("SET statement_timeout = '20s'")
        self._reader = database.connect("ckan_read")
        self._reader.execute("SET statement_timeout = '20s'")
        self._states: dict[str, list[State]] = {name: [None] for name in names}
        self._shown: dict[tuple[str, str], int] = {}  # the state that the published file shows
        self._bytes: dict[str, bytes] = {}  # of objects: they never change

    def close(self) -> None:
        self._admin.close()
        self._reader.close()

    def note(self) -> None:
        """After a commit: write down the new states."""
        for name in self._names:
            state = self._state(name)
            if state != self._states[name][-1]:
                self._states[name].append(state)

    def check(self) -> None:
        """Every file shows one committed state, none older than the one before; what is called fresh shows the last."""
        rows = self._admin.execute(
            "SELECT resource_id, format, storage_key, bytes FROM datastore_dumper.dump_status"
        ).fetchall()
        for name, format_name, key, length in rows:
            data = self._content(key)
            assert len(data) == length, f"{key} has {len(data)} bytes, not {length}"
            self._check_state(name, format_name, data)
        for name in self._names:
            for format_name in FORMATS:
                self._check_lookup(name, format_name)
        both = self._admin.execute(
            "SELECT key FROM datastore_dumper.garbage JOIN datastore_dumper.dump_status ON storage_key = key"
        ).fetchall()
        assert both == [], f"published and garbage at once: {both}"

    def check_final(self) -> None:
        """Everything there is has its newest files, and nothing else has any."""
        rows = self._admin.execute(
            "SELECT resource_id, format, storage_key FROM datastore_dumper.dump_status"
        ).fetchall()
        published = {(name, format_name): key for name, format_name, key in rows}
        wanted = {(name, each) for name in self._names if self._states[name][-1] is not None for each in FORMATS}
        assert set(published) == wanted
        for (name, format_name), key in published.items():
            with self._storage.open(key) as stream:
                data = stream.read()
            state = self._states[name][-1]
            assert state is not None
            assert _content(data, format_name) == _expected(state, format_name), (
                f"{name} as {format_name} is not current"
            )

    def _state(self, name: str) -> State:
        table = sql.Identifier("public", name)
        try:
            with self._admin.transaction():
                self._admin.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE NOWAIT").format(table))
                if not self._admin.execute(
                    "SELECT 1 FROM datastore_dumper.datastore_table WHERE resource_id = %s", [name]
                ).fetchone():
                    return None
                return {each: ckan_dump(self._admin, name, each, COMPAT) for each in ("csv", "json")}
        except errors.UndefinedTable:
            return None
        except errors.LockNotAvailable:
            # Somebody has it for himself and has not committed: it is as it was.
            return self._states[name][-1]

    def _content(self, key: str) -> bytes:
        if key not in self._bytes:
            try:
                with self._storage.open(key) as stream:
                    self._bytes[key] = stream.read()
            except ObjectMissingError:
                pytest.fail(f"a published object is not there: {key}")
        return self._bytes[key]

    def _check_state(self, name: str, format_name: str, data: bytes) -> None:
        content = _content(data, format_name)
        states = self._states.get(name, [])
        matching = [n for n, state in enumerate(states) if state and _expected(state, format_name) == content]
        assert matching, (
            f"torn: {name} as {format_name} was never committed like this: {content!r}; last: {states[-3:]}"
        )
        floor = self._shown.get((name, format_name), 0)
        later = [number for number in matching if number >= floor]
        assert later, f"backwards: {name} as {format_name} shows state {matching[-1]} after {floor}"
        self._shown[name, format_name] = later[0]

    def _check_lookup(self, name: str, format_name: str) -> None:
        row = self._reader.execute(
            "SELECT storage_key, fresh FROM datastore_dumper.lookup(%s, %s)", [name, format_name]
        ).fetchone()
        if row is None or not row[1]:
            return
        data = self._content(row[0])
        state = self._states[name][-1]
        assert state is not None, f"lookup calls {name} as {format_name} fresh, and it is no DataStore table"
        assert _content(data, format_name) == _expected(state, format_name), (
            f"lookup calls {name} as {format_name} fresh: {_content(data, format_name)!r}, "
            f"committed is {_expected(state, format_name)!r}"
        )


def _content(data: bytes, format_name: str) -> bytes:
    return gzip.decompress(data) if format_name == "csv.gz" else data


def _expected(state: dict[str, bytes], format_name: str) -> bytes:
    if format_name == "csv-bom":
        return _BOM + state["csv"]
    return state["json" if format_name == "json" else "csv"]
