"""One round of torture: prepare, torment, let everything come to rest, and count what is wrong."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from datastore_dumper.garbage import sweep
from datastore_dumper.spool import spool_directory
from datastore_dumper.storage.base import CHECK_PREFIX
from tests.support.converged import collect_all, left_in_database, not_fresh, orphans, spools
from tests.torture.arena import Arena, open_arena
from tests.torture.faults import Faults
from tests.torture.fleet import Fleet
from tests.torture.ledger import FORMATS, newest, state_of
from tests.torture.observer import Observer, wait_until
from tests.torture.plan import Storage, make_plan
from tests.torture.writers import make_writers

DDL_WAIT_MS = 2_000
FROZEN_DDL_WAIT_MS = 13_000
"""While a process that holds a lock is frozen: less than the 15 s that xloader waits."""
_REST_SECONDS = 150


@dataclass
class Result:
    """What happened in a round. `problems` explains every count that should be 0."""

    commits: int = 0
    publishes: int = 0
    kills: int = 0
    faults: int = 0
    lost: int = 0
    torn: int = 0
    backwards: int = 0
    stale_served: int = 0
    orphans: int = 0
    crashed: int = 0
    """Daemons that ended with an error nobody meant, and exports that met a bug."""
    max_ddl_wait_ms: int = 0
    max_ddl_wait_frozen_ms: int = 0
    checked_files: int = 0
    fresh_lookups: int = 0
    published_by_daemon: list[int] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        return not self.problems

    def add(self, other: Result) -> None:
        for name in (
            "commits", "publishes", "kills", "faults", "lost", "torn", "backwards", "stale_served", "orphans", "crashed",
            "checked_files", "fresh_lookups",
        ):  # fmt: skip
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("max_ddl_wait_ms", "max_ddl_wait_frozen_ms"):
            setattr(self, name, max(getattr(self, name), getattr(other, name)))
        mine, theirs = self.published_by_daemon, other.published_by_daemon
        longest = max(len(mine), len(theirs))
        self.published_by_daemon = [
            sum(each) for each in zip(_padded(mine, longest), _padded(theirs, longest), strict=True)
        ]
        self.problems += other.problems


def run_round(seed: int, seconds: float, daemons: int, storage: Storage, say: Callable[[str], None]) -> Result:
    """Torment daemons on that storage for so long, then let them converge."""
    plan = make_plan(seed, seconds, daemons, storage)
    say(f"{storage}: {len(plan)} actions in {seconds:g} s with {daemons} daemons, seed {seed}")
    with open_arena(storage, daemons) as arena:
        writers = make_writers(arena, seed)
        for writer in writers:
            writer.prepare()
        fleet = Fleet(arena.dumpers)
        faults = Faults(arena, fleet, say)
        observer = Observer(arena, faults, [writer.name for writer in writers], seed)
        stop_writing, stop_observing = threading.Event(), threading.Event()
        writing = [_started(writer.run, stop_writing) for writer in writers]
        observing = [_started(task, stop_observing) for task in observer.tasks()]
        fleet.start()
        try:
            faults.carry_out(plan, stop_writing)
        finally:
            stop_writing.set()
            for thread in writing:
                thread.join()
        say(f"{storage}: quiet after {dict(faults.done)}")
        rested = wait_until(lambda: _is_at_rest(arena), _REST_SECONDS)
        stop_observing.set()
        for thread in observing:
            thread.join()
        fleet.stop()
        observer.finish()
        result = Result(
            commits=sum(writer.commits.total() for writer in writers), kills=faults.kills, faults=faults.faults
        )
        findings = observer.findings
        result.publishes, result.checked_files = findings.published, findings.checked_files
        result.fresh_lookups = findings.fresh_lookups
        result.max_ddl_wait_ms = findings.max_ddl_wait_ms
        result.max_ddl_wait_frozen_ms = findings.max_ddl_wait_frozen_ms
        for name in ("torn", "backwards", "stale_served"):
            _count(result, name, getattr(findings, name))
        _count(result, "lost", _lost(arena, [writer.name for writer in writers], rested))
        _count(result, "crashed", _crashed(fleet, result))
        collect_all(arena.database, arena.storage)
        _count(result, "orphans", _orphans(arena) + _left_in_spools(arena))
        result.problems += (
            findings.failures + faults.problems + [problem for writer in writers for problem in writer.problems]
        )
        if result.max_ddl_wait_ms > DDL_WAIT_MS:
            result.problems.append(f"a writer waited {result.max_ddl_wait_ms} ms for us: {findings.longest_wait}")
        if result.max_ddl_wait_frozen_ms > FROZEN_DDL_WAIT_MS:
            result.problems.append(f"a writer waited {result.max_ddl_wait_frozen_ms} ms for something frozen")
        return result


def _started(task: Callable[[threading.Event], None], stop: threading.Event) -> threading.Thread:
    thread = threading.Thread(target=task, args=(stop,), daemon=True)
    thread.start()
    return thread


def _count(result: Result, name: str, found: list[str]) -> None:
    setattr(result, name, len(found))
    result.problems += [f"{name}: {each}" for each in found]


def _is_at_rest(arena: Arena) -> bool:
    with arena.connect() as admin:
        return not not_fresh(admin, FORMATS) and not left_in_database(admin)


def _lost(arena: Arena, names: list[str], rested: bool) -> list[str]:
    """Tables whose newest file is not the table, and what is left in the database."""
    found = []
    with arena.connect() as admin:
        if not rested:
            found += [f"{name} is not fresh" for name in not_fresh(admin, FORMATS)]
            found += [f"{count} {what} left" for what, count in left_in_database(admin).items()]
        for name in names:
            now = newest(admin, name)
            for format_name, key in admin.execute(
                "SELECT format, storage_key FROM datastore_dumper.dump_status WHERE resource_id = %s", [name]
            ).fetchall():
                with arena.storage.open(key) as stream:
                    shown = state_of(stream.read())
                if shown != now:
                    found.append(f"{name}.{format_name} shows {shown}, committed is {now}")
    return found


def _crashed(fleet: Fleet, result: Result) -> list[str]:
    found = [f"exit code {code}, {count} times" for code, count in fleet.unexpected.items()] + fleet.late
    for member in fleet.members:
        events = member.events()
        counts = Counter(event.get("event") for event in events)
        result.published_by_daemon.append(counts["published"])
        found += [str(event) for event in events if event.get("event") in {"export_crashed", "task_failed"}]
    return found


def _orphans(arena: Arena) -> list[str]:
    """What a daemon left that was killed while it tried the storage is noted nowhere, but swept."""
    found = [each for each in orphans(arena.database, arena.storage) if CHECK_PREFIX not in each]
    sweep(arena.storage, -3600)
    return found + orphans(arena.database, arena.storage)


def _left_in_spools(arena: Arena) -> list[str]:
    """Those of daemons that were killed are removed by the next one."""
    for dumper in arena.dumpers:
        with spool_directory(dumper.directory / "spool"):
            pass
    return [f"spool {name}" for dumper in arena.dumpers for name in spools(dumper.directory / "spool")]


def _padded(values: list[int], length: int) -> list[int]:
    return values + [0] * (length - len(values))
