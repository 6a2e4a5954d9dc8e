"""The judgement of a daemon's health: every reason there is, and nothing without one."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datastore_dumper.due import Debounce, Pending, agenda
from datastore_dumper.monitor import health
from datastore_dumper.monitor.health import Facts, Health, judge

NOW = 1_000_000.0
WELL = Facts(
    look_interval_seconds=2,
    reconcile_interval_seconds=60,
    started_at=NOW - 5000,
    looked_at=NOW - 1,
    reconciled_at=NOW - 30,
    storage_error=None,
    notify="flowing",
)
UNREADY = {
    "stopping": {"stopping": True},
    "starting": {"looked_at": None},
    "database": {"looked_at": NOW - 60},
    "storage": {"storage_error": "the disk is full"},
}
DEGRADED = {
    "failing": {"states": (("failing", 3),)},
    "triggers": {"unattached": 1},
    "notify": {"notify": "silent"},
    "config": {"config_error": "debounce.quiet_seconds must be a number"},
    "reconcile": {"reconciled_at": NOW - 3600},
}


def test_all_is_well() -> None:
    assert judge(WELL, NOW) == health.Verdict("ready", ())
    assert judge(replace(WELL, notify="off", states=(("due", 5), ("exporting", 2))), NOW).status == "ready"


@pytest.mark.parametrize("code", [*UNREADY, *DEGRADED])
def test_each_reason(code: str) -> None:
    verdict = judge(replace(WELL, **{**UNREADY, **DEGRADED}[code]), NOW)
    assert verdict.status == ("unready" if code in UNREADY else "degraded")
    assert [reason.code for reason in verdict.reasons] == [code]
    assert verdict.reasons[0].message


@given(st.sets(st.sampled_from([*UNREADY, *DEGRADED])))
def test_reasons_together(codes: set[str]) -> None:
    """All of them are named, those that weigh more first."""
    news: dict[str, object] = {}
    for code in codes:
        news |= {**UNREADY, **DEGRADED}[code]
    verdict = judge(replace(WELL, **news), NOW)
    named = [reason.code for reason in verdict.reasons]
    expected = codes - ({"database"} if news.get("looked_at", NOW) is None else set())
    expected -= {"starting"} if news.get("looked_at", NOW) is not None else set()
    assert set(named) == expected
    assert named == sorted(named, key=lambda code: code in DEGRADED)
    assert verdict.status == ("unready" if expected & UNREADY.keys() else "degraded" if expected else "ready")


def test_a_daemon_that_never_reconciles() -> None:
    assert [reason.code for reason in judge(replace(WELL, reconciled_at=None), NOW).reasons] == ["reconcile"]
    assert judge(replace(WELL, reconciled_at=None, started_at=NOW - 30), NOW).status == "ready"


def test_what_a_look_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime(2026, 1, 1, tzinfo=timezone.utc)

    def pending(relid: int, age: float, **values: object) -> Pending:
        changed = now - timedelta(seconds=age)
        return Pending(relid, f"t{relid}", changed, changed, None, None, **values)  # type: ignore[arg-type]

    tables = [
        pending(1, 1),
        pending(2, 500),
        replace(pending(3, 700), lease_until=now + timedelta(seconds=9)),
        replace(pending(4, 800, attempts=2), retry_at=now + timedelta(seconds=9)),
        replace(pending(5, 9000), resource_id=None),  # not looked after: its changes are nobody's
    ]
    found = Health(WELL)
    found.looked(tables, agenda(tables, Debounce(30, 600), now), now, 0.01)
    assert dict(found.facts.states) == {"waiting": 1, "due": 1, "exporting": 1, "failing": 1}
    assert 800 <= found.oldest_change_age_seconds() < 830
    looked_at = found.facts.looked_at
    assert looked_at is not None
    monkeypatch.setattr(health.time, "monotonic", lambda: looked_at + 60)
    assert found.oldest_change_age_seconds() == pytest.approx(860), "it gets older while Postgres does not answer"
    found.looked([], None, None, 0.01)
    assert found.oldest_change_age_seconds() == 0
    assert found.facts.states == ()


def test_a_loop_that_does_not_turn_is_not_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Health(WELL, connect_seconds=10)
    found.turned()
    monkeypatch.setattr(health.time, "monotonic", lambda: found.turned_at + health.STUCK_SECONDS + 9)
    assert found.is_alive
    monkeypatch.setattr(health.time, "monotonic", lambda: found.turned_at + health.STUCK_SECONDS + 11)
    assert not found.is_alive
