"""What an idle daemon costs Postgres: less than one statement a second, with everything that watches it."""

from __future__ import annotations

import signal
import time

import psycopg

from tests.support.daemon import Dumper
from tests.support.proxy import proxy_to
from tests.support.waiting import eventually
from tests.support.watching import Watched

LOOKS = 10
MOST_PER_SECOND = 1.0


def test_an_idle_daemon_asks_little(dumper: Dumper, writer: psycopg.Connection, watched: Watched) -> None:
    """Statements on the wire, with the default intervals. A slow machine only makes it fewer."""

    def count(name: str) -> float:
        return watched.metrics()[name]

    look = {"interval_seconds": 2, "reconcile_interval_seconds": 60}
    with proxy_to(dumper.database.dsn) as proxy:
        there = {"dsn": proxy.dsn(dumper.database.dsn_for("dumper"))}
        with dumper.running(database=there, monitor=watched.settings, look=look) as daemon:
            daemon.wait_for("published", resource_id="t")
            eventually(lambda: watched.readiness()[1] == "ready")
            looks = count("look_duration_seconds_count")
            eventually(lambda: count("look_duration_seconds_count") > looks + 1)

            looks, before, started = count("look_duration_seconds_count"), proxy.statements, time.monotonic()
            for _ in range(100):  # these ask Postgres nothing
                watched.metrics()
                watched.readiness()
            eventually(lambda: count("look_duration_seconds_count") >= looks + LOOKS, timeout=120)
            between_rounds = (proxy.statements - before) / (time.monotonic() - started)

            rounds, before = count("reconcile_duration_seconds_count"), proxy.statements
            daemon.process.send_signal(signal.SIGHUP)
            eventually(lambda: count("reconcile_duration_seconds_count") > rounds)
            a_round = proxy.statements - before
    asked = between_rounds + a_round / look["reconcile_interval_seconds"]
    assert 0.1 < asked < MOST_PER_SECOND, f"{between_rounds:.2f} a second, and {a_round} in a round"
