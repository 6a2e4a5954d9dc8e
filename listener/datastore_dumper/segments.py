"""Turns the fresh parts of a plan into segments in spool files, in order: several at once in worker processes, and never
more of them waiting than the window allows. A segment that had to give way is tried again, in halves."""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path

from datastore_dumper.errors import ExportError, GaveWayError
from datastore_dumper.export import SegmentReader
from datastore_dumper.plan import BUCKET_BITS, TARGET_BYTES, Fresh
from datastore_dumper.processes import SegmentProcesses, SegmentTask, result_of
from datastore_dumper.spool import SegmentFile

# A segment that gave way so many times in a row ends the export; it is due again after a backoff.
_ATTEMPTS = 12
_PAUSE_SECONDS = 0.25  # for the one who waited to get on with it
_CUTS_AT_ONCE = 16  # boundaries looked up in one transaction
_MIN_ROWS = 1 << BUCKET_BITS
_GUESSED_ROW_BYTES = 200.0  # until the first segment tells


@dataclass
class _Item:
    """A segment on its way."""

    part: Fresh
    start: int
    """The first bucket that has rows."""
    attempts: int = 0
    future: Future[SegmentFile] | None = None


@dataclass
class SegmentSource:
    """Exports parts of one table in one format under one snapshot."""

    reader: SegmentReader
    """For looking up boundaries; its connection is not used for COPY."""
    processes: SegmentProcesses
    task: SegmentTask
    """What all segments have in common; part and path are put in."""
    spool: Path
    prefix: str
    """Of the names of the spool files."""
    progress: Callable[[int], None]
    """Called with the number of rows of each finished segment; may raise to break the export off."""
    abandon: threading.Event
    cancel: Callable[[], None]
    """Cancels whatever COPY of this table is running in the processes."""
    row_bytes: float = _GUESSED_ROW_BYTES
    _number: int = field(default=0, init=False)

    def segments(self, part: Fresh) -> Iterator[SegmentFile]:
        """The segments of a part, in order. Close the iterator: what is still running then is cancelled."""
        if part.expected_rows:
            self.row_bytes = max(part.expected_bytes / part.expected_rows, 1.0)
        window = self.processes.count + 1
        waiting: deque[_Item] = deque()
        running: deque[_Item] = deque()
        at: int | None = part.first
        more = True
        try:
            while more or waiting or running:
                if more and len(waiting) + len(running) < window:
                    items, at, more = self._cut(part, at)
                    waiting.extend(items)
                while waiting and len(running) < window:
                    running.append(self._start(waiting.popleft()))
                if not running:
                    continue
                item = running.popleft()
                assert item.future is not None
                try:
                    segment = result_of(item.future)
                except GaveWayError:
                    running.extendleft(reversed([self._start(half) for half in self._again(item)]))
                    continue
                if segment.rows:
                    self.row_bytes = max(segment.length / segment.rows, 1.0)
                self.progress(segment.rows)
                yield segment
        finally:
            self._break_off(running)

    def _cut(self, part: Fresh, at: int | None) -> tuple[list[_Item], int | None, bool]:
        """The next segments of a part from bucket `at` on, where to go on, and whether there is more."""
        rows = max(int(TARGET_BYTES / self.row_bytes), _MIN_ROWS)
        starts = self.reader.boundaries(at, part.last, rows, _CUTS_AT_ONCE + 1)
        if not starts:
            # No rows at all: still one segment, for the manifest covers every bucket.
            return [_Item(Fresh(at, part.last), at or 0)], None, False
        more = len(starts) > _CUTS_AT_ONCE
        items = []
        for index, start in enumerate(starts[:_CUTS_AT_ONCE]):
            first = at if index == 0 else start
            last = starts[index + 1] - 1 if index + 1 < len(starts) else part.last
            items.append(_Item(Fresh(first, last), start))
        return items, starts[-1] if more else None, more

    def _start(self, item: _Item) -> _Item:
        if self.abandon.is_set():
            raise ExportError(f"The export of {self.task.state.table.resource_id} was broken off: the daemon stops")
        self._number += 1
        path = self.spool / f"{self.prefix}{self._number}"
        item.future = self.processes.submit(replace(self.task, part=item.part, path=path))
        return item

    def _again(self, item: _Item) -> list[_Item]:
        """After a pause, the same once more, or in two halves so that each holds the lock for half as long."""
        if item.attempts + 1 >= _ATTEMPTS:
            raise GaveWayError(f"{self.task.state.table.resource_id} is locked by others all the time")
        self.abandon.wait(_PAUSE_SECONDS * (0.5 + random.random()))  # noqa: S311 - jitter
        attempts = item.attempts + 1
        last = item.part.last
        if last is None or last <= item.start:
            return [_Item(item.part, item.start, attempts)]
        middle = (item.start + last) // 2
        return [
            _Item(Fresh(item.part.first, middle), item.start, attempts),
            _Item(Fresh(middle + 1, last), middle + 1, attempts),
        ]

    def _break_off(self, running: deque[_Item]) -> None:
        futures = [item.future for item in running if item.future is not None]
        for future in futures:
            future.cancel()
        while alive := [future for future in futures if not future.done()]:
            self.cancel()
            _wait_a_little(alive[0])


def _wait_a_little(future: Future[SegmentFile]) -> None:
    try:
        future.exception(timeout=0.2)
    except TimeoutError:
        return
