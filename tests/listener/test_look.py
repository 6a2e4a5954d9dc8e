"""What a look found is good for a while: the longer the look took, the longer."""

from __future__ import annotations

from dataclasses import replace
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
    found.remove([pending(1)])
    assert list(found.due) == [2]
    assert found.lasts(102)
    found.remove([pending(2)])
    assert not found.lasts(102)
    assert not Backlog().lasts(0)


def test_first_dumps_come_last() -> None:
    first, other = replace(pending(1), has_files=False), pending(2)
    found = Backlog.found([first, other, pending(3)], NOW, began=100, ended=101)
    assert list(found.due) == [2, 3, 1]
    assert found.has_first_dumps
    found.remove([first])
    assert not found.has_first_dumps
    assert not Backlog().has_first_dumps


def test_changes_grow_older_meanwhile() -> None:
    found = Backlog.found([pending(7)], NOW, began=100, ended=101)
    assert found.age_seconds(found.due[7], 103) == pytest.approx(9)
