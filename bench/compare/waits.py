"""How long a writer's TRUNCATE waits that comes at a random moment while a file is being made."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor

from psycopg import Rollback, sql

from bench.compare.ways import Way
from bench.measurements import seconds_of
from bench.tables import RESOURCE_ID
from tests.support.datastore import WRITE_ROLE

_TRUNCATE = sql.SQL("TRUNCATE TABLE {} RESTART IDENTITY").format(sql.Identifier(RESOURCE_ID))


def truncate_waits(way: Way, longest_seconds: float, trials: int) -> list[float]:
    """In seconds, one for each trial. A moment is within the time that the way takes to its file."""
    chance = random.Random(7)
    return [_wait(way, chance.uniform(0, longest_seconds)) for _ in range(trials)]


def _wait(way: Way, moment: float) -> float:
    """It is rolled back at once: the file is made of the same rows every time."""
    waited = 0.0
    with ThreadPoolExecutor(1) as maker, way.database.connect(WRITE_ROLE) as writer:
        making = maker.submit(way.make)
        threading.Event().wait(moment)
        with writer.transaction():
            waited = seconds_of(lambda: writer.execute(_TRUNCATE))
            raise Rollback
        making.result()
    return waited
