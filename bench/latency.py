"""From the commit of a change to the new file's publication, for a small table and quiet time 0."""

from __future__ import annotations

from typing import get_args

from bench.measurements import Goal, Outcome
from bench.rig import Rig, StorageKind
from bench.tables import load
from datastore_dumper.install import install
from tests.support.installation import ROLES, handle

_ROWS = 1000
_GOALS = {"disk": 0.250, "s3": 0.500}


def run(rig: Rig) -> Outcome:
    outcome = Outcome(facts={"rows": _ROWS})
    database = rig.empty()
    load(database, _ROWS)
    install(handle(database), ROLES)
    for kind in get_args(StorageKind):
        with rig.daemon(database, kind) as daemon:
            rig.say(f"latency: {rig.times} changes, {kind}")
            seconds = []
            for number in range(rig.times):
                statement = f"UPDATE {{t}} SET remark = '{kind} {number}' WHERE _id = {number % _ROWS + 1}"
                seconds.append(daemon.after(statement).seconds)
        series = outcome.add(f"commit to published, {kind}", "s", seconds)
        p95 = series.percentile(95)
        outcome.facts[f"{kind}_p95_seconds"] = p95
        outcome.goals.append(Goal(f"p95, {kind}, seconds", p95, _GOALS[kind]))
    rig.server.drop_database(database.name)
    return outcome
