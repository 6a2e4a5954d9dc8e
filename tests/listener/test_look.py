"""What a look found is good for a while: the longer the look took, the longer."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from datastore_dumper.due import Pending
from datastore_dumper.look import Backlog

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)


def pending(relid: int) -> Pending:
    changed_at = NOW - timedelta(seconds=relid)
    return Pending(relid, str(relid), changed_at, changed_at, None, None)


def test_it_lasts_ten_times_as_long_as_the_look_took() -> None:
    found = Backlog.found([pending(1), pending(2)], NOW, began=100, ended=100.5)
    assert found.lasts(105.4)
    assert not found.lasts(105.6)


def test_it_ends_with_its_last_table() -> None:
    found = Backlog.found([pending(1), pending(2)], NOW, began=100, ended=101)
    assert [each.relid for each in found.without([pending(1)]).due] == [2]
    assert found.without([pending(1)]).lasts(102)
    assert not found.without([pending(1), pending(2)]).lasts(102)
    assert not Backlog().lasts(0)


def test_changes_grow_older_meanwhile() -> None:
    found = Backlog.found([pending(7)], NOW, began=100, ended=101)
    assert found.age_seconds(found.due[0], 103) == pytest.approx(9)
