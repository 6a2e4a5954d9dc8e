"""The debounce: when a table is due."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from datastore_dumper.due import LARGE_BYTES, Debounce, Pending, agenda, due_at, retry_delay_seconds, startable

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
    assert sorted(map(id, [*todo.due, *later])) == sorted(map(id, known)) or len(todo.due) + len(later) == len(known)
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
