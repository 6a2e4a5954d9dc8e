"""What one more daemon adds: the same change of many small tables, published by one, two and three of them, each a process with
its own share of the work."""

from __future__ import annotations

from typing import get_args

from bench.measurements import Goal, Outcome, seconds_of
from bench.rig import Rig, StorageKind
from bench.scale import create_tables, wait_until_fresh
from datastore_dumper.install import install
from tests.support.datastore import WRITE_ROLE
from tests.support.installation import ROLES, handle

_TABLES = 1000
_MOST = 3
_CHANGE = """
DO $$
BEGIN
    FOR i IN 0..{last} LOOP
        EXECUTE format('UPDATE %I SET a = ''{text}'' WHERE _id = 1', 'r' || i);
    END LOOP;
END $$
"""
_FAIR = 0.5  # what the one with the least publishes, of an even share


def run(rig: Rig) -> Outcome:
    tables = min(rig.tables, _TABLES)
    database = rig.empty()
    create_tables(database, tables)
    install(handle(database), ROLES)
    outcome = Outcome(facts={"tables": tables})
    for kind in get_args(StorageKind):
        alone = None
        for count in range(1, _MOST + 1):
            with rig.many([database] * count, kind) as (_, daemons):
                wait_until_fresh(database, tables)
                rig.say(f"daemons: {count}, {kind}")
                before = [len(each.all("published")) for each in daemons]
                seconds = []
                for number in range(rig.runs):
                    with database.connect(WRITE_ROLE) as writer:
                        writer.execute(_CHANGE.format(last=tables - 1, text=f"{count} {number}").encode())
                    seconds.append(seconds_of(lambda: wait_until_fresh(database, tables)))
                shares = [len(each.all("published")) - earlier for each, earlier in zip(daemons, before, strict=True)]
            outcome.facts[f"{kind}: published by each of {count}"] = shares
            series = outcome.add(f"{tables:,} tables, {count} daemons, {kind}", "s", seconds, against=alone)
            alone = alone or series
            if count > 1:
                least = min(shares) * count / max(sum(shares), 1)
                outcome.goals.append(Goal(f"least of {count} daemons' shares, {kind}", least, _FAIR, at_least=True))
    rig.server.drop_database(database.name)
    return outcome
