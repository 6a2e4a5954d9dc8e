"""Has all ways make their files in turns: a counting round, which warms up, and then the rounds that are timed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from statistics import median

from psycopg import sql

from bench.compare.changes import CHANGES, FIRST, Change
from bench.compare.ckan_dump import CkanDump
from bench.compare.meter import Cost, Made, timed
from bench.compare.product import Product
from bench.compare.stage import Stage
from bench.compare.waits import truncate_waits
from bench.compare.ways import Way, takes_part
from bench.tables import RESOURCE_ID
from tests.support.datastore import WRITE_ROLE
from tests.support.postgres import Connection


@dataclass
class Results:
    """What was measured, by the names of the change and of the way, or by the name of the way alone."""

    costs: dict[tuple[str, str], list[Cost]] = field(default_factory=dict)
    read_bytes: dict[tuple[str, str], int] = field(default_factory=dict)
    """From Postgres, by the one round that counts."""
    file_bytes: dict[str, int] = field(default_factory=dict)
    waits: dict[str, list[float]] = field(default_factory=dict)
    """Of a writer's TRUNCATE, in seconds."""


@dataclass(frozen=True)
class _Turn:
    """One way's, and who writes meanwhile."""

    way: Way
    act: Callable[[], Made]
    writer: Connection | None = None


def run_rounds(stage: Stage, ways: Sequence[Way], runs: int, trials: int) -> Results:
    """Count, then measure."""
    results = Results()
    with _opened(ways):
        _count(stage, ways, results)
    stage.stop_counting()
    with _opened(ways):
        for way in ways:
            way.make()  # not timed: processes are new since the round that counted
        for run in range(1, runs + 1):
            for change in CHANGES:
                stage.say(f"round {run} of {runs}: {change.title}")
                for turn in _turns(stage, ways, change, run):
                    cost = stage.meter.measure(turn.way.roots, turn.way.databases, turn.act, turn.writer)
                    results.costs.setdefault((change.name, turn.way.name), []).append(cost)
            _restore(stage, ways)
        for way in (way for way in ways if takes_part(way, CHANGES[-1]) or way.name == "ckan-csv"):
            stage.say(f"TRUNCATE, {trials} times, while there is: {way.title}, {way.format}")
            longest = median(cost.seconds for cost in results.costs[FIRST.name, way.name])
            results.waits[way.name] = truncate_waits(way, longest, trials)
    return results


@contextmanager
def _opened(ways: Sequence[Way]) -> Iterator[None]:
    with ExitStack() as stack:
        for way in ways:
            stack.enter_context(way.opened())
        yield


def _count(stage: Stage, ways: Sequence[Way], results: Results) -> None:
    for change in CHANGES:
        stage.say(f"counting bytes: {change.title}")
        for turn in _turns(stage, ways, change, 0):
            before = stage.proxy.bytes_from_server
            made = turn.act()
            results.read_bytes[change.name, turn.way.name] = stage.proxy.bytes_from_server - before
            if change is FIRST:
                answer = turn.way.answer_bytes if isinstance(turn.way, CkanDump) else made.uploaded_bytes
                results.file_bytes[turn.way.name] = answer
    _restore(stage, ways)


def _turns(stage: Stage, ways: Sequence[Way], change: Change, run: int) -> Iterator[_Turn]:
    """The change is made once in each database. Those who read it without having been told do so one after another."""
    for database in stage.databases:
        here = [way for way in ways if way.database is database and takes_part(way, change)]
        if not here:
            continue
        with database.connect(WRITE_ROLE) as writer:
            commit = partial(change.commit, writer, stage.load, run) if change.commit else None
            if commit and not any(isinstance(way, Product) for way in here):
                commit()
            for way in here:
                if isinstance(way, Product):
                    way.wait_for_quiet(change.quiet_seconds(stage.load))
                    yield _Turn(way, partial(way.react, commit) if commit else way.full, writer)
                else:
                    yield _Turn(way, partial(timed, way.make))


def _restore(stage: Stage, ways: Sequence[Way]) -> None:
    """The tables are again as they were loaded: xloader's reload has left them twice as large."""
    vacuum = sql.SQL("VACUUM (FULL, FREEZE, ANALYZE) {}").format(sql.Identifier(RESOURCE_ID))
    for database in stage.databases:
        here = [way for way in ways if way.database is database and takes_part(way, CHANGES[-1])]
        if here:
            with database.connect() as admin:
                admin.execute(vacuum)
        for way in here:
            if isinstance(way, Product):
                way.wait_for_quiet(0)
                way.full()
    with stage.server.connect() as admin:
        admin.execute("CHECKPOINT")
