"""A full export as csv.gz, against one as CSV: two daemons, on two copies of the database, that take turns."""

from __future__ import annotations

from bench.measurements import Goal, Outcome, rounds
from bench.rig import Export, Rig, RunningDaemon

_SHARE = 1.15


def run(rig: Rig) -> Outcome:
    database = rig.loaded(rig.rows)
    exports: dict[str, Export] = {}

    def full(daemon: RunningDaemon, name: str) -> float:
        exports[name] = daemon.full()
        return exports[name].seconds

    with (
        rig.copy_of(database) as copy,
        rig.daemon(database, "disk") as plain,
        rig.daemon(copy, "disk", formats=["csv.gz"]) as compressed,
    ):
        rig.say("gzip: plain and compressed take turns")
        values = rounds({"csv": lambda: full(plain, "csv"), "csv.gz": lambda: full(compressed, "csv.gz")}, rig.runs)
    sizes = {name: export.event["bytes"] for name, export in exports.items()}
    outcome = Outcome(facts={"rows": rig.rows, "csv_bytes": sizes["csv"], "csv_gz_bytes": sizes["csv.gz"]})
    base = outcome.add("csv", "s", values["csv"], note=f"{sizes['csv'] / 1e6:,.1f} MB")
    series = outcome.add("csv.gz", "s", values["csv.gz"], against=base, note=f"{sizes['csv.gz'] / 1e6:,.1f} MB")
    assert series.ratio is not None
    outcome.goals.append(Goal("csv.gz : csv", series.ratio, _SHARE))
    return outcome
