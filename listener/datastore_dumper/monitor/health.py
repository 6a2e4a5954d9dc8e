"""Whether the daemon can do its work, and why not: what its parts report, and a pure judgement of it.

Unready: nothing gets published, or nobody knows. Degraded: it works, but somebody should look. A daemon whose main loop does
not turn any more is not even alive; for that a restart is the cure, for all else it is not.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from datastore_dumper.due import Agenda, Pending
from datastore_dumper.monitor import metrics
from datastore_dumper.monitor.pings import NotifyState

Status = Literal["ready", "degraded", "unready"]
PendingState = Literal["exporting", "failing", "due", "waiting"]
PENDING_STATES: tuple[PendingState, ...] = ("exporting", "failing", "due", "waiting")

STUCK_SECONDS = 150
"""A main loop that has not turned for so long never will: each wait in it has a shorter deadline (daemon, database)."""

_LATE_LOOK_SECONDS = 15  # beyond the interval between looks
_LATE_RECONCILE_SECONDS = 600


@dataclass(frozen=True)
class Facts:
    """What the daemon knows about itself. Times are monotonic seconds; None: never."""

    look_interval_seconds: float
    reconcile_interval_seconds: float
    started_at: float
    looked_at: float | None = None
    reconciled_at: float | None = None
    storage_error: str | None = ""
    """Empty: not asked yet; None: it is there and ours."""
    notify: NotifyState = "unknown"
    states: tuple[tuple[PendingState, int], ...] = ()
    """How many tables with something to publish are in which state."""
    oldest_change_age_seconds: float = 0
    """At `looked_at`."""
    unattached: int = 0
    config_error: str | None = None
    stopping: bool = False

    def count(self, state: PendingState) -> int:
        return dict(self.states).get(state, 0)


@dataclass(frozen=True)
class Reason:
    """Something that is not as it should be. `code` is stable: scripts may rely on it."""

    code: str
    message: str


@dataclass(frozen=True)
class Verdict:
    """The judgement, with the reasons that made it no better, worst first."""

    status: Status
    reasons: tuple[Reason, ...]


def judge(facts: Facts, now: float) -> Verdict:
    """What the facts come to at `now` (monotonic seconds)."""
    unready, degraded = list(_unready(facts, now)), list(_degraded(facts, now))
    return Verdict("unready" if unready else "degraded" if degraded else "ready", (*unready, *degraded))


def _unready(facts: Facts, now: float) -> Iterable[Reason]:
    if facts.stopping:
        yield Reason("stopping", "the daemon was told to stop")
    if facts.looked_at is None:
        yield Reason("starting", f"started {now - facts.started_at:.0f} s ago and has not looked for due tables yet")
    elif now - facts.looked_at > facts.look_interval_seconds + _LATE_LOOK_SECONDS:
        yield Reason("database", f"no answer from Postgres for {now - facts.looked_at:.0f} s")
    if facts.storage_error:
        yield Reason("storage", facts.storage_error)


def _degraded(facts: Facts, now: float) -> Iterable[Reason]:
    if failing := facts.count("failing"):
        yield Reason("failing", f"{failing} tables failed when they were last exported; see `datastore-dumper status`")
    if facts.unattached:
        yield Reason("triggers", f"{facts.unattached} tables lack triggers and cannot be given them now")
    if facts.notify == "silent":
        yield Reason(
            "notify",
            f"notifications do not arrive; changes are seen within {facts.look_interval_seconds:g} s all the same",
        )
    if facts.config_error is not None:
        yield Reason("config", f"the configuration was refused when it was read again: {facts.config_error}")
    since = facts.started_at if facts.reconciled_at is None else facts.reconciled_at
    if now - since > facts.reconcile_interval_seconds + _LATE_RECONCILE_SECONDS:
        yield Reason("reconcile", f"tables were last reconciled {now - since:.0f} s ago")


def state_of(pending: Pending, due: bool, now: datetime) -> PendingState:
    """The state of a table with something to publish, in the words of `datastore-dumper status`."""
    if pending.lease_until is not None and pending.lease_until > now:
        return "exporting"
    return "failing" if pending.attempts else "due" if due else "waiting"


@dataclass
class Health:
    """What the parts of one daemon report, from whichever thread."""

    facts: Facts
    connect_seconds: float = 0
    """How long one attempt to connect may take."""
    _turned_at: float = field(default_factory=time.monotonic)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def turned(self) -> None:
        """The main loop has come round once more."""
        self._turned_at = time.monotonic()

    @property
    def turned_at(self) -> float:
        """When the main loop last came round (monotonic seconds)."""
        return self._turned_at

    def looked(self, pending: Iterable[Pending], todo: Agenda | None, now: datetime | None, seconds: float) -> None:
        """A look for due tables came back, after `seconds`. `now` is the database's clock, None if nothing is pending."""
        known = [each for each in pending if each.resource_id is not None]
        due = {each.relid for each in todo.due} if todo is not None else set()
        states: Counter[PendingState] = Counter()
        oldest = 0.0
        if now is not None:
            states.update(state_of(each, each.relid in due, now) for each in known)
            oldest = max([0.0, *((now - each.first_change_at).total_seconds() for each in known)])
        self._note(looked_at=time.monotonic(), states=tuple(states.items()), oldest_change_age_seconds=oldest)
        metrics.LOOK_DURATION.observe(seconds)
        metrics.LOOK_TIMESTAMP.set_to_current_time()

    def settled(self, error: str | None) -> None:
        """The storage was asked whose it is: ours, or why that is not known."""
        self._note(storage_error=error)
        metrics.STORAGE_VERIFIED.set(error is None)

    def reconciled(self, unattached: int, seconds: float) -> None:
        """All tables were reconciled, in `seconds`; so many lack triggers."""
        self._note(reconciled_at=time.monotonic(), unattached=unattached)
        metrics.RECONCILE_DURATION.observe(seconds)
        metrics.RECONCILE_TIMESTAMP.set_to_current_time()

    def heard(self, state: NotifyState) -> None:
        """What the pings tell about notifications."""
        self._note(notify=state)

    def configured(self, error: str | None, *, look: float, reconcile: float) -> None:
        """The configuration was read: these are the intervals that count now, and what was wrong with it, if anything."""
        self._note(config_error=error, look_interval_seconds=look, reconcile_interval_seconds=reconcile)
        metrics.CONFIG_RELOAD_SUCCESSFUL.set(error is None)
        if error is None:
            metrics.CONFIG_RELOAD_TIMESTAMP.set_to_current_time()

    def stopping(self) -> None:
        """The daemon takes on nothing new."""
        self._note(stopping=True)

    def verdict(self) -> Verdict:
        """The judgement as of now."""
        return judge(self.facts, time.monotonic())

    @property
    def is_alive(self) -> bool:
        return time.monotonic() - self._turned_at < STUCK_SECONDS + self.connect_seconds

    def oldest_change_age_seconds(self) -> float:
        """As of now: what was unpublished at the last look is that much older, whether or not Postgres answers."""
        facts = self.facts
        if not facts.oldest_change_age_seconds or facts.looked_at is None:
            return 0
        return facts.oldest_change_age_seconds + time.monotonic() - facts.looked_at

    def _note(self, **news: object) -> None:
        with self._lock:
            self.facts = replace(self.facts, **news)  # type: ignore[arg-type]
