"""Shows outcomes as a table, and keeps them as JSON together with the machine that they were measured on."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.measurements import Goal, Outcome, Series
from datastore_dumper import __version__

_DIGITS = {"s": 3, "us": 1, "MB": 0, "tps": 0}


def show(console: Console, name: str, outcome: Outcome) -> None:
    """Print one benchmark."""
    table = Table(title=name, title_justify="left", title_style="bold")
    for heading in ("", "median", "min", "max", "p99", "ratio"):
        table.add_column(heading, justify="left" if not heading else "right", no_wrap=bool(heading))
    table.add_column("note")
    for series in outcome.series:
        table.add_row(series.name, *_numbers(series), series.note)
    console.print(table)
    for goal in outcome.goals:
        console.print(_verdict(goal))
    console.print()


def write(path: Path, outcomes: Mapping[str, Outcome], settings: Mapping[str, Any]) -> None:
    """Write one run to a JSON file. Benchmarks that it has of an earlier run and that were not run now stay, if that was on the
    same machine with the same settings: each is complete in itself, and says when it was made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    run = rounded(
        {
            "made_at": now,
            "version": __version__,
            "machine": machine(),
            "settings": dict(settings),
            "benchmarks": {name: {"made_at": now, **outcome.to_json()} for name, outcome in outcomes.items()},
        }
    )
    run["benchmarks"] = {**_kept(path, run), **run["benchmarks"]}
    path.write_text(json.dumps(run, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _kept(path: Path, run: Mapping[str, Any]) -> dict[str, Any]:
    former = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if any(former.get(key) != run[key] for key in ("version", "machine", "settings")):
        return {}
    return {name: {"made_at": former["made_at"], **outcome} for name, outcome in former["benchmarks"].items()}


def _numbers(series: Series) -> tuple[str, ...]:
    digits = _DIGITS[series.unit]
    low, high, p99 = (
        f"{value:,.{digits}f}" for value in (min(series.values), max(series.values), series.percentile(99))
    )
    few = len(series.values) < 20  # then it is the greatest
    ratio = "" if series.ratio is None else f"{series.ratio:.3f}"
    return f"{series.median:,.{digits}f} {series.unit}", low, high, "" if few else p99, ratio


def _verdict(goal: Goal) -> str:
    sense = ">=" if goal.at_least else "<="
    mark = "[green]met   [/]" if goal.met else "[red]MISSED[/]"
    return f"  {mark} {goal.name}: {goal.value:.3f} (goal {sense} {goal.bound:g})"


def machine() -> dict[str, Any]:
    """What this was measured on."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())


def rounded(value: Any) -> Any:
    """Without digits that say nothing."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return value
