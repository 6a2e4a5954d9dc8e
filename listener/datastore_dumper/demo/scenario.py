"""The demo's story: a first dump, a burst of changes, a reload and a drop, each checked. What it measures goes into `Measured`."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event

from datastore_dumper.database import Connection, database_errors
from datastore_dumper.demo import datastore
from datastore_dumper.demo.checks import CheckFailedError, Dump, lookup, require, verify_files
from datastore_dumper.demo.data import data_file, flights
from datastore_dumper.demo.interruption import Interrupted, Interruption
from datastore_dumper.demo.postgres import PrivatePostgres
from datastore_dumper.demo.program import QUIET_SECONDS, Program
from datastore_dumper.demo.show import Bar, Show
from datastore_dumper.sqlfiles import query
from datastore_dumper.storage.keys import MARK_NAME

BURST_COMMITS = 500
_BURST_SECONDS = 3.0
_STEP_SECONDS = 60.0  # the longest anything may take until it shows, on a slow and busy machine
_TICK_SECONDS = 0.05


@dataclass
class Measured:
    """The demo's figures. None: it did not get that far."""

    rows: int | None = None
    bytes: int | None = None
    """Of the first file in plain CSV."""
    first_publish_seconds: float | None = None
    """From the start of the daemon's process until `lookup()` hands out the file."""
    redump_seconds: float | None = None
    """From the last commit of the burst until `lookup()` hands out the new file, quiet time included."""
    burst_changes: int | None = None
    burst_dumps: int | None = None

    def to_json(self, *, ok: bool, reason: str = "") -> str:
        """One line of JSON, with the reason if not all went well."""
        figures = {name: value for name, value in asdict(self).items() if value is not None}
        return json.dumps({"ok": ok, **figures, **({"reason": reason} if reason else {})}, separators=(",", ":"))


def run_demo(show: Show, measured: Measured, *, rows: int, keep: bool) -> None:
    """Play it all, in the main thread; afterwards nothing is left of it: no process and no file.

    Fills `measured` as it goes. Raises `DumperError`, `CheckFailedError` among them, and `Interrupted` after a signal.
    """
    source = data_file()
    interruption = Interruption()
    server = PrivatePostgres()
    with interruption.watching(), database_errors():
        try:
            show.heading("Datastore Dumper: the file of a DataStore table is made once per change")
            started = time.monotonic()
            with show.bar("Start a private Postgres"), interruption.deferred():
                server.start()
            show.done(f"Postgres {server.binaries.version} in {server.directory}", time.monotonic() - started)
            program = Program(server.directory / "demo", server.dsn(datastore.DATABASE, datastore.DAEMON_ROLE))
            datastore.prepare(server)
            try:
                with (
                    closing(datastore.connect(server)) as admin,
                    closing(datastore.connect(server, datastore.WRITE_ROLE)) as writer,
                    closing(datastore.connect(server, datastore.READ_ROLE)) as reader,
                ):
                    _Story(show, measured, interruption, server, program, admin, writer, reader, source, rows).play(
                        keep
                    )
            finally:
                with interruption.deferred():
                    status = program.stop_daemon()
            show.heading("The end")
            require(status == 0, f"the daemon ended with code {status} after SIGTERM")
            show.done("The daemon ended with code 0 after SIGTERM")
        finally:
            with interruption.deferred():
                server.stop()
        show.done("Postgres is stopped and its directory gone")
        require(not program.config.exists(), f"{program.config.parent} is still there")


@dataclass(frozen=True)
class _Story:
    """Its steps, and what they share. Connections are the superuser's and those of CKAN's two roles."""

    _show: Show
    _measured: Measured
    _interruption: Interruption
    _server: PrivatePostgres
    _program: Program
    _admin: Connection
    _writer: Connection
    _reader: Connection
    _source: Path
    _rows: int

    def play(self, keep: bool) -> None:
        self._set_up()
        first = self._first_dump()
        self._burst()
        self._reload(first)
        self._drop()
        if keep:
            self._set_up_again()
            self._stay()

    def _set_up(self) -> None:
        show = self._show
        started = time.monotonic()
        with show.bar("Load flights", self._rows) as bar:
            rows = datastore.create_and_load(self._writer, flights(self._source, self._rows), bar.advance)
        show.done(f"{rows:,} flights in a DataStore table of CKAN's role", time.monotonic() - started, bar=True)
        self._measured.rows = rows
        started = time.monotonic()
        with show.bar("datastore-dumper install"), self._interruption.deferred():
            self._program.install(self._server.dsn(datastore.DATABASE))
        show.done("datastore-dumper install: tables, triggers, rights", time.monotonic() - started)

    def _first_dump(self) -> Dump:
        self._show.heading("1  First dump")
        require(lookup(self._reader) is None, "lookup() has a file before the daemon made one")
        started = time.monotonic()
        with self._interruption.deferred():
            self._program.start_daemon()
        self._published("published: csv and csv-bom", dumps_before=0)
        self._measured.first_publish_seconds = round(time.monotonic() - started, 2)
        self._show.done(
            "From the daemon's start to a file that CKAN may hand out", time.monotonic() - started, bar=True
        )
        dump = self._verify()
        self._show.note(f"in {self._program.files / datastore.RESOURCE_ID}")
        self._measured.bytes = dump.bytes
        return dump

    def _burst(self) -> None:
        show, measured = self._show, self._measured
        show.heading(f"2  A burst of {BURST_COMMITS} commits")
        before = self._dumps()
        assert measured.rows is not None
        with show.bar("Insert, update, delete", BURST_COMMITS) as bar:

            def progress(commits: float) -> None:
                bar.advance(commits)
                if commits == 1:
                    self._require_stale("the first commit")

            burst = datastore.burst(
                self._writer,
                commits=BURST_COMMITS,
                seconds=_BURST_SECONDS,
                rows=measured.rows,
                quiet_seconds=QUIET_SECONDS,
                progress=progress,
            )
            started = time.monotonic()
        show.done(f"{burst.commits} transactions that insert, update and delete", burst.seconds, bar=True)
        show.done("lookup(): stale right after the first of them")
        self._published("Wait for quiet, then dump", dumps_before=before)
        measured.redump_seconds = round(time.monotonic() - started, 2)
        measured.burst_changes, measured.burst_dumps = burst.commits, self._dumps() - before
        require(
            measured.burst_dumps <= 1 + burst.long_pauses,
            f"{burst.commits} commits in quick succession led to {measured.burst_dumps} dumps instead of one",
        )
        dumps = "One dump" if measured.burst_dumps == 1 else f"{measured.burst_dumps} dumps"
        show.done(
            f"{dumps} for all of them, {QUIET_SECONDS:g} s of quiet included", time.monotonic() - started, bar=True
        )
        self._verify()

    def _reload(self, first: Dump) -> None:
        show = self._show
        show.heading("3  TRUNCATE and COPY, as xloader loads a new version")
        before = self._dumps()
        started = time.monotonic()
        with show.bar("Reload", self._rows) as bar:
            datastore.reload(self._writer, flights(self._source, self._rows), bar.advance)
        loaded = time.monotonic()
        self._require_stale("the reload")
        show.done("One transaction, while the daemon runs", loaded - started, bar=True)
        self._published("Wait for quiet, then dump", dumps_before=before)
        show.done(f"A new dump, {QUIET_SECONDS:g} s of quiet included", time.monotonic() - loaded, bar=True)
        again = self._verify()
        require(again == first, f"the same rows gave another file than the first time: {again}, not {first}")

    def _drop(self) -> None:
        show = self._show
        show.heading("4  DROP TABLE")
        started = time.monotonic()
        self._writer.execute(query("demo_drop"))
        require(lookup(self._reader) is None, "lookup() still finds a file of a table that was dropped")
        show.done("lookup() finds nothing any more, at once")
        with show.bar("Wait for the garbage collection"):
            self._wait(lambda: not self._files(), "the files of the dropped table are still there")
        show.done("Its files are deleted: links to them have expired", time.monotonic() - started)

    def _set_up_again(self) -> None:
        self._show.heading("Once more, to look around")
        before = self._dumps()
        with self._show.bar("Load flights", self._rows) as bar:
            datastore.create_and_load(self._writer, flights(self._source, self._rows), bar.advance)
        self._published("Wait for quiet, then dump", dumps_before=before)
        self._verify()

    def _stay(self) -> None:
        show, program, server = self._show, self._program, self._server
        psql = server.binaries.bin_directory / "psql"
        commands = (
            ["tail", "-f", program.log],
            ["ls", "-lR", program.files],
            [sys.executable, "-m", "datastore_dumper", "status", "--watch", "-c", program.config],
            [psql if os.access(psql, os.X_OK) else "psql", server.dsn(datastore.DATABASE, datastore.WRITE_ROLE)],
        )
        show.heading("It runs until Ctrl-C. Try, from another terminal:")
        for command in commands:
            show.note(shlex.join(map(str, command)))
        show.note(f"""  UPDATE "{datastore.RESOURCE_ID}" SET dep_delay = 0 WHERE _id = 1;""")  # noqa: S608 - to be read
        show.note("  (the daemon makes one new file when the table has been quiet for a while)")
        never = Event()
        try:
            while not never.wait(1.0):
                program.require_daemon()
        except Interrupted:
            return

    def _published(self, doing: str, *, dumps_before: int) -> None:
        """Wait until `lookup()` calls the file fresh and the daemon has logged that it published it."""
        with self._show.bar(doing, self._measured.rows) as bar:
            self._wait(
                lambda: self._is_fresh(bar), "no fresh file was published", also=lambda: self._dumps() > dumps_before
            )

    def _is_fresh(self, bar: Bar) -> bool:
        exporting = self._admin.execute(query("demo_exported_rows")).fetchone()
        if exporting is not None:
            bar.say("Export")
            bar.advance(exporting[0])
        found = lookup(self._reader)
        return found is not None and found.fresh

    def _wait(self, condition: Callable[[], bool], failure: str, also: Callable[[], bool] = lambda: True) -> None:
        """Until both hold. Raises `CheckFailedError` when that takes too long, `DumperError` when the daemon ends."""
        tick = Event()
        deadline = time.monotonic() + _STEP_SECONDS
        while not (condition() and also()):
            self._program.require_daemon()
            if time.monotonic() > deadline:
                raise CheckFailedError(f"{failure} within {_STEP_SECONDS:g} s")
            tick.wait(_TICK_SECONDS)

    def _verify(self) -> Dump:
        started = time.monotonic()
        dump = verify_files(self._reader, self._program.files)
        self._show.done(
            f"{dump.rows:,} rows, {dump.bytes / 1e6:.1f} MB, byte for byte as CKAN sends them",
            time.monotonic() - started,
        )
        return dump

    def _require_stale(self, what: str) -> None:
        found = lookup(self._reader)
        require(found is not None and not found.fresh, f"lookup() does not call the file stale after {what}")

    def _dumps(self) -> int:
        return sum(event["resource_id"] == datastore.RESOURCE_ID for event in self._program.events("published"))

    def _files(self) -> list[Path]:
        """Dumps: the mark of the storage stays. (`Path.rglob` fails of a directory that the daemon removes meanwhile.)"""
        found = (Path(directory) / name for directory, _, names in os.walk(self._program.files) for name in names)
        return [path for path in found if path.name != MARK_NAME]
