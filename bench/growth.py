"""How time, memory and temporary space grow with the table."""

from __future__ import annotations

from bench.measurements import Goal, Outcome
from bench.rig import Rig
from bench.usage import Usage, watched
from datastore_dumper.config.model import ExportConfig

_SCALES = (0.25, 1, 4)
_MEMORY_BYTES = 256_000_000


def run(rig: Rig) -> Outcome:
    outcome = Outcome()
    export = ExportConfig()
    window_bytes = (export.workers + 1) * export.segment_bytes
    memory = spool = 0
    for rows in (max(int(rig.rows * scale), 1) for scale in _SCALES):
        database = rig.loaded(rows)
        with rig.daemon(database, "disk") as daemon:
            rig.say(f"growth: {rows:,} rows")
            with watched(daemon.pid, daemon.spool) as usage:
                full = outcome.add(f"{rows:,} rows: full", "s", [daemon.full().seconds for _ in range(rig.runs)])
                update = f"UPDATE {{t}} SET remark = 'grown {{run}}' WHERE _id = {max(rows // 2, 1)}"
                single = [daemon.after(update.replace("{run}", str(run))).seconds for run in range(rig.runs)]
            outcome.add(f"{rows:,} rows: 1 row changed", "s", single, against=full)
            _add_memory(outcome, f"{rows:,} rows: peak memory", usage)
            outcome.add(f"{rows:,} rows: peak temporary space", "MB", [usage.spool_bytes / 1e6])
        memory, spool = max(memory, usage.resident_bytes), max(spool, usage.spool_bytes)
        with rig.daemon(database, "s3") as daemon, watched(daemon.pid, daemon.spool) as usage:
            daemon.full()
        _add_memory(outcome, f"{rows:,} rows: peak memory, s3", usage)
        memory = max(memory, usage.resident_bytes)
        if rows != rig.rows:
            rig.drop(rows)
    outcome.goals.append(Goal("memory of the daemon and its workers, MB", memory / 1e6, _MEMORY_BYTES / 1e6))
    outcome.goals.append(Goal("temporary space, MB", spool / 1e6, export.workers * window_bytes / 1e6))
    return outcome


def _add_memory(outcome: Outcome, name: str, usage: Usage) -> None:
    shared_once = f"shared pages counted once: {usage.proportional_bytes / 1e6:,.0f} MB"
    outcome.add(name, "MB", [usage.resident_bytes / 1e6], note=f"{usage.processes} processes; {shared_once}")
