"""The debounce: when a table is due."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from datastore_dumper.due import LARGE_BYTES, Debounce, Pace, Pending, agenda, due_at, retry_delay_seconds, startable

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
seconds = st.floats(min_value=0, max_value=10_000, allow_nan=False)
times = st.integers(min_value=-10_000, max_value=10_000).map(lambda s: NOW + timedelta(seconds=s))
maybe_times = st.none() | times


@st.composite
def pendings(draw: st.DrawFn) -> Pending:
    first, last = sorted((draw(times), draw(times)))
    return Pending(
        relid=draw(st.integers(1, 50)),
        resource_id=draw(st.none() | st.just("a")),
        first_change_at=first,
        last_change_at=last,
        lease_until=draw(maybe_times),
        retry_at=draw(maybe_times),
        requested_at=draw(maybe_times),
        bytes=draw(st.sampled_from([0, LARGE_BYTES, LARGE_BYTES + 1])),
        has_files=draw(st.booleans()),
    )


@given(pendings(), seconds, seconds)
def test_a_burst_waits_for_quiet_but_no_longer_than_the_max_delay(pending: Pending, quiet: float, delay: float) -> None:
    due = due_at(pending, Debounce(quiet, delay))
    free = max([t for t in (pending.lease_until, pending.retry_at) if t is not None], default=due)
    assert due <= max(pending.first_change_at + timedelta(seconds=delay), free)
    assert due <= max(pending.last_change_at + timedelta(seconds=quiet), free)
    assert due >= min(
        pending.first_change_at + timedelta(seconds=delay),
        pending.last_change_at + timedelta(seconds=quiet),
        *([pending.requested_at] if pending.requested_at is not None else []),
    )
    assert all(due >= bound for bound in (pending.lease_until, pending.retry_at) if bound is not None)


@given(pendings(), seconds, seconds)
def test_a_request_waits_for_a_lease_and_a_retry_alone(pending: Pending, quiet: float, delay: float) -> None:
    requested = replace(pending, requested_at=NOW)
    bounds = [bound for bound in (pending.lease_until, pending.retry_at) if bound is not None]
    assert due_at(requested, Debounce(quiet, delay)) <= max([NOW, *bounds])
    assert due_at(requested, Debounce(quiet, delay)) <= due_at(
        replace(pending, requested_at=None), Debounce(quiet, delay)
    )


@given(st.lists(pendings()), seconds, seconds)
def test_the_agenda_loses_nothing(pending: list[Pending], quiet: float, delay: float) -> None:
    debounce = Debounce(quiet, delay)
    todo = agenda(pending, debounce, NOW)
    known = [each for each in pending if each.resource_id is not None]
    later = [each for each in known if each not in todo.due]
    assert all(due_at(each, debounce) <= NOW for each in todo.due)
    assert all(due_at(each, debounce) > NOW for each in later)
    assert sorted(map(id, [*todo.due, *later])) == sorted(map(id, known))
    assert todo.unknown == {each.relid for each in pending if each.resource_id is None}
    if later:
        assert todo.next_due_in == min(due_at(each, debounce) for each in later) - NOW
    else:
        assert todo.next_due_in is None


def test_the_longest_overdue_comes_first() -> None:
    early = Pending(1, "a", NOW - timedelta(hours=2), NOW - timedelta(hours=2), None, None)
    late = Pending(2, "b", NOW - timedelta(hours=1), NOW - timedelta(hours=1), None, None)
    assert [each.relid for each in agenda([late, early], Debounce(5, 10), NOW).due] == [1, 2]


def test_a_table_that_daemons_die_of_backs_off() -> None:
    debounce = Debounce(0, 0, retry_initial_seconds=5, retry_max_seconds=60)
    pending = Pending(1, "a", NOW - timedelta(hours=1), NOW - timedelta(hours=1), NOW, None)
    delays = [due_at(replace(pending, attempts=attempts), debounce) - NOW for attempts in range(6)]
    assert [delay.total_seconds() for delay in delays] == [0, 5, 10, 20, 40, 60]
    assert due_at(replace(pending, attempts=5, requested_at=NOW), debounce) == NOW


def test_who_asks_gets_one_attempt_at_a_table_that_daemons_die_of() -> None:
    debounce = Debounce(0, 0, retry_initial_seconds=5, retry_max_seconds=60)
    before = NOW - timedelta(hours=1)
    died = Pending(1, "a", before, before, NOW, None, requested_at=before, attempts=2, exporting_since=before)
    assert due_at(died, debounce) == NOW + timedelta(seconds=10)
    asked_again = replace(died, requested_at=before + timedelta(seconds=1))
    assert due_at(asked_again, debounce) == NOW


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_retries_grow_to_the_cap_and_are_jittered(attempts: int, jitter: float) -> None:
    delay = retry_delay_seconds(attempts, 5, 600, jitter)
    unjittered = min(5 * 2 ** min(attempts, 30), 600)
    assert unjittered / 2 <= delay <= unjittered


@given(st.lists(pendings(), unique_by=lambda each: each.relid), st.integers(0, 5), st.integers(1, 6))
def test_large_tables_leave_a_place_for_small_ones(due: list[Pending], busy: int, concurrency: int) -> None:
    running = {each.relid: each for each in due[:busy][:concurrency]}
    started = startable(due, running, concurrency)
    everything = [*running.values(), *started]
    assert len(everything) <= concurrency
    assert not {each.relid for each in started} & running.keys()
    large_before = sum(each.is_large for each in running.values())
    assert sum(each.is_large for each in everything) <= max(concurrency - 1, 1, large_before)
    if len(everything) < concurrency:  # nobody waits without need
        assert all(each.is_large for each in due if each not in everything)


@given(st.lists(pendings(), unique_by=lambda each: each.relid), st.integers(1, 6), st.none() | st.integers(0, 3))
def test_first_dumps_come_last_and_not_more_than_allowed(
    due: list[Pending], concurrency: int, allowed: int | None
) -> None:
    due.sort(key=lambda each: not each.has_files)
    started = startable(due, {}, concurrency, allowed)
    firsts = [each for each in started if not each.has_files]
    assert allowed is None or len(firsts) <= allowed
    assert [each.has_files for each in started] == sorted((each.has_files for each in started), reverse=True)
    left = [each for each in due if each.has_files and not each.is_large and each not in started]
    assert not (left and firsts)
    without = [each for each in due if each.has_files]
    assert [each for each in started if each.has_files] == startable(without, {}, concurrency)


@given(st.integers(1, 600), st.lists(st.floats(0, 30), min_size=1, max_size=60))
def test_the_pace_is_kept_over_any_time(per_minute: int, pauses: list[float]) -> None:
    pace = Pace(per_minute)
    now = started = 0.0
    total = 0
    for pause in pauses:
        now += pause
        allowed = pace.allowance(now)
        assert allowed is not None
        pace.take(allowed)
        total += allowed
        assert total <= (now - started) * per_minute / 60 + max(per_minute / 60, 1) + 1e-6
        if not allowed:
            assert pace.seconds_to_next() <= 60 / per_minute


def test_waiting_as_told_is_waiting_enough() -> None:
    pace = Pace(7)
    now = 1000.0
    for _ in range(100):
        assert pace.allowance(now) == 1
        pace.take(1)
        assert pace.allowance(now) == 0
        now += pace.seconds_to_next()
    assert abs(now - 1000 - 100 * 60 / 7) < 0.001


def test_what_was_somebody_elses_does_not_count() -> None:
    pace = Pace(1)
    assert pace.allowance(0) == 1
    pace.take(1)
    assert pace.allowance(0) == 0
    pace.give_back()
    assert pace.allowance(0) == 1
    assert pace.allowance(30) == 1, "no more than one is saved"


def test_no_pace() -> None:
    pace = Pace(None)
    assert pace.allowance(0) is None
    pace.take(5)
    pace.give_back()
    assert pace.allowance(1) is None
