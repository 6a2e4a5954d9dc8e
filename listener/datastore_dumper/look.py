"""Looks at what there is to do: one query, no decision (`due` decides)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from datastore_dumper.database import Connection
from datastore_dumper.due import Pending
from datastore_dumper.sqlfiles import query


def look(connection: Connection) -> tuple[list[Pending], datetime | None]:
    """Every table with unpublished changes or a request, and the database's clock (None if nothing is pending)."""
    rows = connection.execute(query("pending")).fetchall()
    pending = [Pending(*row[:-1]) for row in rows]
    return pending, (rows[0][-1] if rows else None)


_SHARE = 10
"""A look may take one part in so many of the time, while there is something to do without it."""


@dataclass
class Backlog:
    """What the last look found due and is not started yet. With thousands of tables due, a look takes longer than the export of
    a small one, so it is not repeated after each: claiming finds out what others have published meanwhile."""

    due: dict[int, Pending] = field(default_factory=dict)
    """By relid, in the order in which they are started: those without files last, because what is published already goes
    stale, and they wait as before."""
    now: datetime | None = None
    """The database's clock when it looked."""
    ended: float = float("-inf")
    """When that was, in monotonic seconds."""
    good_until: float = float("-inf")

    @classmethod
    def found(cls, due: Iterable[Pending], now: datetime, began: float, ended: float) -> Backlog:
        """By a look from `began` to `ended`."""
        in_order = sorted(due, key=lambda each: not each.has_files)
        return cls({each.relid: each for each in in_order}, now, ended, ended + _SHARE * (ended - began))

    @property
    def has_first_dumps(self) -> bool:
        """Whether there are any without files."""
        last = next(reversed(self.due.values()), None)
        return last is not None and not last.has_files

    def lasts(self, at: float) -> bool:
        """Whether there is something to do at that time without another look."""
        return bool(self.due) and at < self.good_until

    def remove(self, started: Iterable[Pending]) -> None:
        """They are started."""
        for each in started:
            del self.due[each.relid]

    def age_seconds(self, each: Pending, at: float) -> float:
        """For how long the oldest change of a table has been waiting."""
        assert self.now is not None, "nothing was found"
        return (self.now - each.first_change_at).total_seconds() + at - self.ended
