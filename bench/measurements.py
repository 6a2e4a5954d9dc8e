"""What a benchmark hands back: series of measured values, goals, and facts that explain them. Showing them is `report`'s."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Unit = Literal["s", "us", "MB", "tps"]


@dataclass(frozen=True)
class Series:
    """The same thing measured several times. `ratio` compares its median with that of another series."""

    name: str
    unit: Unit
    values: tuple[float, ...]
    ratio: float | None = None
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def percentile(self, percent: float) -> float:
        """The smallest value that so many percent of the values do not exceed (nearest rank)."""
        ordered = sorted(self.values)
        return ordered[max(math.ceil(len(ordered) * percent / 100) - 1, 0)]

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "unit": self.unit,
            "median": self.median,
            "min": min(self.values),
            "max": max(self.values),
            "p95": self.percentile(95),
            "p99": self.percentile(99),
            "ratio": self.ratio,
            "note": self.note,
            "values": list(self.values),
        }


@dataclass(frozen=True)
class Goal:
    """What a value should be at most, or at least."""

    name: str
    value: float
    bound: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "value": self.value,
            "bound": self.bound,
            "sense": "at least" if self.at_least else "at most",
            "met": self.met,
        }


@dataclass
class Outcome:
    """All of one benchmark."""

    series: list[Series] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def add(
        self, name: str, unit: Unit, values: Sequence[float], *, against: Series | None = None, note: str = ""
    ) -> Series:
        """Add a series, with the ratio to the median of `against`."""
        series = Series(name, unit, tuple(values), note=note)
        if against is not None:
            series = Series(name, unit, series.values, series.median / against.median, note)
        self.series.append(series)
        return series

    def to_json(self) -> dict[str, Any]:
        return {
            "series": [series.to_json() for series in self.series],
            "goals": [goal.to_json() for goal in self.goals],
            "facts": self.facts,
        }


def seconds_of(action: Callable[[], object]) -> float:
    """How long it takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def rounds(contestants: dict[str, Callable[[], float]], runs: int) -> dict[str, list[float]]:
    """Values of all contestants, who take turns, so that what disturbs the machine disturbs all. The first turn of each
    does not count."""
    values: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(runs + 1):
        for name, measure in contestants.items():
            value = measure()
            if number:
                values[name].append(value)
    return values
