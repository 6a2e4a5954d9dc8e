"""The comparison as JSON: medians with the least and the greatest, and how long downloads have no current file."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from bench.compare.changes import CHANGES, Change, Load
from bench.compare.ckan_dump import CkanDump
from bench.compare.crowd import Crowd
from bench.compare.job_queue import JobQueue
from bench.compare.meter import Cost
from bench.compare.psql_script import INTERVAL_SECONDS, PsqlScript
from bench.compare.rounds import Results
from bench.compare.ways import Way, takes_part
from datastore_dumper.config.model import DebounceConfig

_MEASURES = [field.name for field in dataclasses.fields(Cost)]
_OF_ONE_JOB = ("memory_bytes",)
"""What many jobs, one after another, take no more of than one."""


def as_json(ways: Sequence[Way], results: Results, crowds: Sequence[Crowd], load: Load) -> dict[str, Any]:
    """All that was measured, by names."""
    return {
        "ways": {way.name: _about(way, results) for way in ways},
        "changes": {
            change.name: {
                "title": change.title,
                "quiet_seconds": change.quiet_seconds(load),
                "costs": {way.name: _cost(way, change, results, load) for way in ways if takes_part(way, change)},
            }
            for change in CHANGES
        },
        "truncate_waits": {name: statistics_of(values) for name, values in results.waits.items()},
        "crowd": {crowd.name: _crowd(crowd) for crowd in crowds},
    }


def statistics_of(values: Iterable[float]) -> dict[str, Any]:
    """Median, least, greatest, and all of them."""
    kept = list(values)
    return {"median": statistics.median(kept), "min": min(kept), "max": max(kept), "values": kept}


def _about(way: Way, results: Results) -> dict[str, Any]:
    return {
        "title": way.title,
        "group": way.group,
        "format": way.format,
        "storage": way.storage,
        "file_bytes": results.file_bytes[way.name],
    }


def _cost(way: Way, change: Change, results: Results, load: Load) -> dict[str, Any]:
    costs = results.costs[change.name, way.name]
    jobs = change.jobs(load) if isinstance(way, JobQueue) else 1
    times = {name: 1 if name in _OF_ONE_JOB else jobs for name in _MEASURES}
    cost: dict[str, Any] = {
        name: statistics_of(getattr(each, name) * times[name] for each in costs) for name in _MEASURES
    }
    cost["read_bytes"] = results.read_bytes[change.name, way.name] * jobs
    if jobs > 1:
        cost["computed_of_one_job"] = jobs
    return {**cost, "without_file": _without_file(way, change.quiet_seconds(load), cost["seconds"]["median"], jobs)}


def _without_file(way: Way, waited_seconds: float, seconds: float, jobs: int) -> dict[str, Any]:
    """From the commit until a download gets a file of this state or a newer one that is not built for it: `slow` where
    CKAN's own dump answers meanwhile, `stale` where an older file does."""
    if isinstance(way, CkanDump):
        return {"kind": "always slow"}
    if isinstance(way, PsqlScript):
        # A change comes at any time between two runs.
        return {
            "kind": "stale",
            "seconds": INTERVAL_SECONDS / 2 + seconds,
            "at_most_seconds": INTERVAL_SECONDS + seconds,
            "interval_seconds": INTERVAL_SECONDS,
        }
    if isinstance(way, JobQueue):
        # The first job that is done says that the file is ready, and the others are still to come.
        return {"kind": "slow" if jobs == 1 else "stale", "seconds": seconds}
    quiet_seconds = DebounceConfig().quiet_seconds
    return {
        "kind": "slow",
        "seconds": max(seconds - waited_seconds, 0) + quiet_seconds,
        "quiet_seconds": quiet_seconds,
    }


def _crowd(crowd: Crowd) -> dict[str, Any]:
    """The 95th percentile counts a download that was not over as if it had been: it is a lower bound then."""
    all_seconds = sorted([*crowd.finished, *crowd.unfinished])
    at = max(-(-len(all_seconds) * 95 // 100) - 1, 0)
    return {
        "title": crowd.title,
        "seconds": crowd.seconds,
        "downloads": crowd.downloads,
        "downloads_per_second": crowd.downloads / crowd.seconds,
        "finished": len(crowd.finished),
        "unfinished": len(crowd.unfinished),
        "p95_seconds": all_seconds[at],
        "p95_is_lower_bound": bool(crowd.unfinished) and max(crowd.unfinished) >= all_seconds[at],
        "postgres_seconds_per_second": crowd.cost.postgres_seconds / crowd.seconds,
        "postgres_cpu_seconds_per_second": crowd.cost.postgres_cpu_seconds / crowd.seconds,
        "ckan_cpu_seconds_per_second": crowd.cost.client_cpu_seconds / crowd.seconds,
    }
