"""A re-export after a small change, against a full one of the same table: time, and bytes read, sent and reused."""

from __future__ import annotations

from typing import get_args

from bench.measurements import Goal, Outcome, Series
from bench.rig import Export, Rig, RunningDaemon, StorageKind

_SHARE = 0.05
_UPDATE = "UPDATE {{t}} SET remark = 'changed {run}' WHERE _id = {id}"


def run(rig: Rig) -> Outcome:
    outcome = Outcome(facts={"rows": rig.rows})
    for kind in get_args(StorageKind):
        _measure(rig, kind, outcome)
    return outcome


def _measure(rig: Rig, kind: StorageKind, outcome: Outcome) -> None:
    rows = rig.rows
    with rig.copy_of(rig.loaded(rows)) as database, rig.daemon(database, kind) as daemon:
        rig.say(f"redump: full exports to {kind}")
        exports = [daemon.full() for _ in range(rig.runs)]
        full = _add(outcome, f"{kind}: full", exports, None)
        whole = exports[0].event["read_bytes"]
        single = []
        for name, row in (("first", 1), ("middle", rows // 2), ("last", rows)):
            rig.say(f"redump: {name} row, {kind}")
            exports = [daemon.after(_UPDATE.format(run=run, id=row)) for run in range(rig.runs)]
            single.append(_add(outcome, f"{kind}: 1 row changed, {name} segment", exports, full))
        stride = max(rows // 100, 1)
        for name, statement in (
            ("100 scattered rows changed", f"UPDATE {{t}} SET remark = 'scattered {{run}}' WHERE _id % {stride} = 0"),
            ("1 % appended", _appended(rows)),
            ("1 row deleted", f"DELETE FROM {{t}} WHERE _id = {rows // 3} + {{run}}"),
        ):
            rig.say(f"redump: {name}, {kind}")
            _add(outcome, f"{kind}: {name}", _exports(daemon, statement, rig.runs), full)
        worst = max(single, key=lambda series: series.ratio or 0)
        assert worst.ratio is not None
        outcome.goals.append(Goal(f"{kind}: 1 changed row : full, seconds", worst.ratio, _SHARE))
        outcome.facts[f"{kind}_full_read_bytes"] = whole


def _exports(daemon: RunningDaemon, statement: str, runs: int) -> list[Export]:
    return [daemon.after(statement.replace("{run}", str(run))) for run in range(runs)]


def _appended(rows: int) -> str:
    """1 % of the rows once more, at the end."""
    columns = "_full_text, station, remark, reading, people, measured_at, amount, valid, tags, place"
    return f"INSERT INTO {{t}} ({columns}) SELECT {columns} FROM {{t}} WHERE _id <= {max(rows // 100, 1)}"


def _add(outcome: Outcome, name: str, exports: list[Export], full: Series | None) -> Series:
    counts = {key: exports[-1].event[f"{key}_bytes"] for key in ("read", "uploaded", "reused")}
    outcome.facts[name] = counts
    note = ", ".join(f"{key} {count / 1e6:,.1f} MB" for key, count in counts.items())
    return outcome.add(name, "s", [export.seconds for export in exports], against=full, note=note)
