"""Turns the fresh parts of a plan into segments in spool files, in order: several at once in worker processes, and never
more of them waiting than the window allows. A segment that had to give way is tried again, in halves."""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Protocol, TypeVar

from datastore_dumper.errors import ExportError, GaveWayError
from datastore_dumper.export import ManyRowsError, SegmentReader
from datastore_dumper.formats import file_format
from datastore_dumper.plan import BUCKET_BITS, Fresh
from datastore_dumper.processes import SegmentProcesses, SegmentTask, result_of
from datastore_dumper.spool import SegmentFile

# A segment that gave way so many times in a row ends the export; it is due again after a backoff.
_ATTEMPTS = 12
_PAUSE_SECONDS = 0.25  # for the one who waited to get on with it
# Boundaries looked up in one transaction: few at first, for the processes wait for them.
_FIRST_CUTS = 2
_CUTS_AT_ONCE = 16
_MIN_ROWS = 1 << BUCKET_BITS
_SLACK = 1.5  # a segment that grew by no more than this stays one: boundaries that stay let equal bytes be noticed
_GUESSED_ROW_BYTES = 200.0  # until the first segment tells


T = TypeVar("T")


class Progress(Protocol):
    """Told of the rows of a segment: so far, or (`final`) in all. May raise to break the export off."""

    def __call__(self, rows: int, *, final: bool) -> None: ...


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
    progress: Progress
    abandon: threading.Event
    cancel: Callable[[], None]
    """Cancels whatever COPY of this table is running in the processes."""
    target_bytes: int
    """Of a segment."""
    row_bytes: float = _GUESSED_ROW_BYTES
    _has_gaps: bool = field(default=False, init=False)
    """Of the ids, half have no row somewhere."""
    _number: int = field(default=0, init=False)

    def segments(self, parts: Sequence[Fresh], *, whole: bool = False) -> Generator[SegmentFile, None, None]:
        """The segments of parts that follow each other, in order; just one if it is wanted whole.

        What is one segment is exported here, by this thread. Close the iterator: what still runs is cancelled.
        """
        if whole:
            yield self._inline(Fresh(parts[0].first, parts[-1].last))
            return
        try:
            small = self._small(parts)
        except ManyRowsError:
            small = None
        if small is not None:
            yield small
            return
        items = self._items(parts)
        first, second = next(items), next(items, None)
        if second is None:
            yield self._inline(first.part)
            return
        items = chain([first, second], items)
        running: deque[_Item] = deque()
        try:
            running.extend(map(self._start, islice(items, self.processes.count + 1)))
            while running:
                item = running.popleft()
                assert item.future is not None
                try:
                    segment = result_of(item.future)
                except GaveWayError:
                    running.extendleft(reversed([self._start(half) for half in self._again(item)]))
                    continue
                if segment.rows:
                    self.row_bytes = max(segment.length / segment.rows, 1.0)
                last = item.part.last
                if last is not None and segment.rows < (last - item.start + 1) << (BUCKET_BITS - 1):
                    self._has_gaps = True
                self.progress(segment.rows, final=True)
                running.extend(map(self._start, islice(items, 1)))
                yield segment
        finally:
            self._break_off(running)

    def _small(self, parts: Sequence[Fresh]) -> SegmentFile | None:
        """The only part of a table that has no room for more rows than one segment may have, so that no boundaries need be
        looked up; None if there are more parts, or the table is known to be larger. Raises `ManyRowsError` if it turns out
        to be."""
        if len(parts) > 1:
            return None
        self._expect(parts[0])
        most_rows = self._rows(_SLACK)
        if self.task.state.estimated_rows > most_rows:
            return None
        return self._inline(parts[0], most_rows)

    def _expect(self, part: Fresh) -> None:
        if part.expected_rows:
            self.row_bytes = max(part.expected_bytes / part.expected_rows, 1.0)

    def _items(self, parts: Sequence[Fresh]) -> Iterator[_Item]:
        """The parts as they are, or cut where they hold more than a segment should."""
        for part in parts:
            self._expect(part)
            starts = self._starts(part, part.first, 1, slack=_SLACK)
            if len(starts) < 2:
                # Without rows it is still a segment, for the manifest covers every bucket.
                yield _Item(part, starts[0] if starts else part.first or 0)
            else:
                yield from self._cut(part)

    def _cut(self, part: Fresh) -> Iterator[_Item]:
        """By steps of half a segment, so that the last one is no shorter than that: a short one would be joined with its
        neighbour the next time, and equal bytes in other segments are not known to be equal.

        Rows are counted only once a segment has shown that ids say little about them. The results that decide this come in
        the order of the segments, so the same rows are cut in the same places.
        """
        at = part.first
        cuts = _FIRST_CUTS
        while True:
            halves = self._starts(part, at, 2 * cuts + 1, slack=0.5, by_ids=not self._has_gaps)
            more = len(halves) > 2 * cuts + 1
            starts = [
                start
                for index, start in enumerate(halves)
                if index % 2 == 0 and (index == 0 or index + 1 < len(halves))
            ]
            for index, start in enumerate(starts[:-1] if more else starts):
                last = starts[index + 1] - 1 if index + 1 < len(starts) else part.last
                yield _Item(Fresh(at, last), start)
                at = None if last is None else last + 1
            if not more:
                return
            cuts = min(2 * cuts, _CUTS_AT_ONCE)

    def _starts(self, part: Fresh, at: int | None, segments: int, slack: float, *, by_ids: bool = False) -> list[int]:
        """The buckets where that many segments begin from `at` on, and where the next one would. `slack` times as long
        ones are let pass."""
        rows = self._rows(slack)
        return self._patiently(lambda: self.reader.boundaries(at, part.last, rows, segments + 1, by_ids=by_ids))

    def _rows(self, slack: float) -> int:
        """In a segment `slack` times as long as it should be."""
        return max(int(self.target_bytes / self.row_bytes * slack), _MIN_ROWS)

    def _inline(self, part: Fresh, most_rows: int | None = None) -> SegmentFile:
        return self._patiently(lambda: self._read(part, most_rows))

    def _patiently(self, read: Callable[[], T]) -> T:
        """Try again after giving way, a few times."""
        for _ in range(_ATTEMPTS - 1):
            try:
                return read()
            except GaveWayError:
                self._require_going_on()
                self._pause()
        return read()

    def _read(self, part: Fresh, most_rows: int | None) -> SegmentFile:
        path = self._new_path()
        format_ = file_format(self.task.format_name).format
        try:
            segment = self.reader.export(format_, part, path, lambda rows: self.progress(rows, final=False), most_rows)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        self.progress(segment.rows, final=True)
        return segment

    def _new_path(self) -> Path:
        self._number += 1
        self.spool.mkdir(mode=0o700, exist_ok=True)  # a cleaner of temporary files may have taken it away
        return self.spool / f"{self.prefix}{self._number}"

    def _pause(self) -> None:
        """Let the one who waited get on with it."""
        self.abandon.wait(_PAUSE_SECONDS * (0.5 + random.random()))  # noqa: S311 - jitter

    def _require_going_on(self) -> None:
        if self.abandon.is_set():
            raise ExportError(f"The export of {self.task.state.table.resource_id} was broken off: the daemon stops")

    def _start(self, item: _Item) -> _Item:
        self._require_going_on()
        item.future = self.processes.submit(replace(self.task, part=item.part, path=self._new_path()))
        return item

    def _again(self, item: _Item) -> list[_Item]:
        """After a pause, the same once more, or in two halves so that each holds the lock for half as long."""
        if item.attempts + 1 >= _ATTEMPTS:
            raise GaveWayError(f"{self.task.state.table.resource_id} is locked by others all the time")
        self._pause()
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
