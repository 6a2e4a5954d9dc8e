"""How figures of the comparison are written: units, digits, and in which order ways stand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Measure:
    """A column. `unit` is s or MB."""

    key: str
    title: str
    unit: str


MEASURES = (
    Measure("seconds", "to the file, s", "s"),
    Measure("client_cpu_seconds", "CPU of clients, s", "s"),
    Measure("postgres_cpu_seconds", "CPU of Postgres, s", "s"),
    Measure("storage_cpu_seconds", "CPU of storage, s", "s"),
    Measure("postgres_seconds", "time in Postgres, s", "s"),
    Measure("memory_bytes", "memory, MB", "MB"),
    Measure("read_bytes", "read, MB", "MB"),
    Measure("block_bytes", "blocks, MB", "MB"),
    Measure("uploaded_bytes", "uploaded, MB", "MB"),
)


def text_of(value: float, unit: str) -> str:
    """Three digits that say something."""
    if unit == "MB":
        value /= 1e6
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def median_of(cost: Json, key: str) -> float:
    value = cost[key]
    return float(value if isinstance(value, (int, float)) else value["median"])


def range_of(cost: Json, key: str, unit: str) -> str:
    """From the least to the greatest; nothing where there is one value, or both are written alike."""
    value = cost[key]
    if isinstance(value, (int, float)):
        return ""
    least, greatest = (text_of(value[end], unit) for end in ("min", "max"))
    return "" if least == greatest else f"{least}-{greatest}"


def without_file(cost: Json) -> str:
    """How long downloads have no current file."""
    about = cost["without_file"]
    if about["kind"] == "always slow":
        return "always slow"
    seconds = text_of(about["seconds"], "s")
    if "at_most_seconds" in about:
        return f"stale {seconds}, at most {text_of(about['at_most_seconds'], 's')}"
    return f"{about['kind']} {seconds}"


def rows_of(outcome: Json, change: str) -> Iterator[tuple[str, Json, Json]]:
    """Name, description and cost of each way. CKAN's own dump stands in every change, with what each download costs."""
    costs = outcome["changes"][change]["costs"]
    first = outcome["changes"]["first"]["costs"]
    for name, way in outcome["ways"].items():
        if name in costs:
            yield name, way, costs[name]
        elif name == "ckan-csv":
            yield name, way, first[name]
