"""When a table is exported: the debounce. Pure functions of change rows, settings and the database's clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from queue import SimpleQueue


@dataclass(frozen=True)
class Debounce:
    """A burst of changes is over after `quiet_seconds` without one, or lasts `max_delay_seconds` at the most."""

    quiet_seconds: float
    max_delay_seconds: float
    retry_initial_seconds: float = 0
    retry_max_seconds: float = 0
    """Of the backoff after exports that did not even fail: whose daemon was gone before it could say so."""


LARGE_BYTES = 64 * 1024 * 1024
"""Above this a table is large: it may keep a worker busy for long."""

IMMEDIATELY = Debounce(0, 0)

_ROUNDING = 1e-9  # of sums of fractions that should make one


@dataclass(frozen=True)
class Pending:
    """A table with committed changes that no published file shows, or whose export was requested. All times are the
    database's; without changes those of changes are the request's."""

    relid: int
    resource_id: str | None
    """None if the table is not looked after yet, or is gone: the reconciler's business."""
    first_change_at: datetime
    last_change_at: datetime
    lease_until: datetime | None
    retry_at: datetime | None
    requested_at: datetime | None = None
    """Somebody asked for the export: it does not wait for quiet."""
    bytes: int = 0
    """About how large it is: its largest file so far, or its heap if that is larger."""
    attempts: int = 0
    """Exports that failed in a row, or were left behind by a daemon that died."""
    exporting_since: datetime | None = None
    """When the export began that has the lease, or was left behind."""
    has_files: bool = True
    """False: there are none yet, and whoever asks gets CKAN's own dump as before."""

    @property
    def is_large(self) -> bool:
        return self.bytes > LARGE_BYTES


@dataclass(frozen=True)
class Agenda:
    """What to do now and how long nothing else can become due by itself."""

    due: tuple[Pending, ...]
    """Longest overdue first."""
    next_due_in: timedelta | None
    """None: nothing is pending."""
    unknown: frozenset[int]
    """Tables with changes that are not looked after, or are gone: reconcile."""


def due_at(pending: Pending, debounce: Debounce) -> datetime:
    """`least(last change + quiet, first change + max delay)`, or at a request; but not before a retry is allowed or a lease
    has ended."""
    due = min(
        pending.last_change_at + timedelta(seconds=debounce.quiet_seconds),
        pending.first_change_at + timedelta(seconds=debounce.max_delay_seconds),
    )
    if pending.requested_at is not None:
        due = min(due, pending.requested_at)
    return max([due, *(bound for bound in (pending.retry_at, _free_at(pending, debounce)) if bound is not None)])


def _free_at(pending: Pending, debounce: Debounce) -> datetime | None:
    """When a lease that nobody gives back ends. The table may be what its holder died of (memory, a fault in a library): if
    that happened before, it backs off as after an error, so that a daemon that is started again gets to the other tables.
    Somebody who asked for it since gets one attempt at once."""
    asked_since = pending.requested_at is not None and (
        pending.exporting_since is None or pending.requested_at > pending.exporting_since
    )
    if pending.lease_until is None or not pending.attempts or asked_since:
        return pending.lease_until
    delay = retry_delay_seconds(
        pending.attempts - 1, debounce.retry_initial_seconds, debounce.retry_max_seconds, jitter=0
    )
    return pending.lease_until + timedelta(seconds=delay)


def agenda(pending: Iterable[Pending], debounce: Debounce, now: datetime) -> Agenda:
    """Sort what is pending into what is due at `now` and what is not."""
    all_pending = list(pending)
    known = [(due_at(each, debounce), each) for each in all_pending if each.resource_id is not None]
    known.sort(key=lambda pair: pair[0])
    later = [at - now for at, _ in known if at > now]
    return Agenda(
        due=tuple(each for at, each in known if at <= now),
        next_due_in=later[0] if later else None,
        unknown=frozenset(each.relid for each in all_pending if each.resource_id is None),
    )


class Pace:
    """So many first dumps in a minute, not all of them at its start. Times are monotonic seconds. Any thread may give back."""

    def __init__(self, per_minute: int | None) -> None:
        """None: as many as come."""
        self.per_minute = per_minute
        self._saved = 1.0
        self._at = float("-inf")
        self._given_back = SimpleQueue[None]()

    def allowance(self, now: float) -> int | None:
        """How many may be started now; None: any number."""
        if self.per_minute is None:
            return None
        per_second = self.per_minute / 60
        while not self._given_back.empty():
            self._given_back.get()
            self._saved += 1
        if now > self._at:
            self._saved = min(self._saved + (now - self._at) * per_second, max(per_second, 1.0))
            self._at = now
        return int(self._saved + _ROUNDING)

    def take(self, count: int) -> None:
        """So many are started."""
        self._saved -= count

    def give_back(self) -> None:
        """One that was started was somebody else's: nothing was done."""
        self._given_back.put(None)

    def seconds_to_next(self) -> float:
        """After `allowance` said that none may be started."""
        assert self.per_minute is not None, "else any may"
        return max(1 - self._saved, 0) * 60 / self.per_minute


def startable(
    due: Iterable[Pending], running: Mapping[int, Pending], concurrency: int, first_dumps: int | None = None
) -> list[Pending]:
    """Which of the due tables to start beside those that run, in their order; of those without files, which come last, not more
    than `first_dumps`. Large ones never take the last free place, so that small ones need not wait for them."""
    started = dict(running)
    firsts = 0
    for each in due:
        large = sum(other.is_large for other in started.values())
        if len(started) >= concurrency or (not each.has_files and firsts == first_dumps):
            break
        if each.relid not in started and not (each.is_large and large >= max(concurrency - 1, 1)):
            started[each.relid] = each
            firsts += not each.has_files
    return [each for relid, each in started.items() if relid not in running]


def retry_delay_seconds(attempts: int, initial_seconds: float, max_seconds: float, jitter: float) -> float:
    """Exponential backoff. `attempts` failed before this one; `jitter` from 0 to 1 takes up to half of the delay off."""
    delay = min(initial_seconds * 2.0 ** min(attempts, 30), max_seconds)
    return delay * (1 - jitter / 2)
