"""The daemon notifies itself: it notices when notifications no longer arrive, and when they do again."""

from __future__ import annotations

from contextlib import ExitStack

import psycopg

from tests.support.daemon import Dumper
from tests.support.pgbouncer import PgBouncer
from tests.support.proxy import proxy_to
from tests.support.waiting import eventually
from tests.support.watching import Watched


def states(watched: Watched) -> dict[str, float]:
    found = watched.metrics()
    return {state: found["notify_state", state] for state in ("unknown", "flowing", "silent", "off")}


def only(state: str) -> dict[str, float]:
    return {each: float(each == state) for each in ("unknown", "flowing", "silent", "off")}


def test_notifications_that_are_lost(dumper: Dumper, writer: psycopg.Connection, watched: Watched) -> None:
    with proxy_to(dumper.database.dsn) as proxy:
        there = {"dsn": proxy.dsn(dumper.database.dsn_for("dumper"))}
        with dumper.running(database=there, monitor=watched.settings) as daemon:
            eventually(lambda: states(watched) == only("flowing"))
            assert watched.metrics()["notify_round_trip_seconds_count"] >= 1
            proxy.drop_notifications()
            daemon.wait_for("notify_silent")
            assert states(watched) == only("silent")
            assert watched.readiness() == (200, "degraded", ["notify"])
            writer.execute("INSERT INTO t (a) VALUES ('x')")
            daemon.wait_for("published", resource_id="t", rows=1)
            proxy.restore()
            daemon.wait_for("notify_flowing")
            assert states(watched) == only("flowing")
            assert daemon.all("connection_lost") == [], "a connection that only loses notifications is not given up"


def test_the_pings_of_others_wake_nobody(dumper: Dumper, writer: psycopg.Connection, watched: Watched) -> None:
    other = Watched.somewhere()
    with ExitStack() as running:
        daemon = running.enter_context(dumper.running(monitor=watched.settings, look={"interval_seconds": 60}))
        daemon.wait_for("published", resource_id="t")
        eventually(lambda: watched.metrics()["reconcile_duration_seconds_count"] == 1)
        running.enter_context(dumper.running(monitor=other.settings, look={"interval_seconds": 0.5}))
        eventually(lambda: states(other) == only("flowing"))
        rung = watched.metrics()["notifications_total"]
        looked = watched.metrics()["look_duration_seconds_count"]
        pings = other.metrics()["notify_round_trip_seconds_count"]
        eventually(lambda: other.metrics()["notify_round_trip_seconds_count"] > pings, timeout=40)
        assert watched.metrics()["notifications_total"] == rung
        assert watched.metrics()["look_duration_seconds_count"] <= looked + 1


def test_notifications_that_are_off(dumper: Dumper, writer: psycopg.Connection, watched: Watched) -> None:
    with dumper.database.connect() as admin:
        admin.execute(f"ALTER DATABASE {dumper.database.name} SET datastore_dumper.notify = off")
    with dumper.running(monitor=watched.settings):
        eventually(lambda: states(watched) == only("off"))
        assert watched.readiness() == (200, "ready", [])


def test_a_pooler_that_does_not_let_them_through(
    dumper: Dumper, writer: psycopg.Connection, watched: Watched, pgbouncer: PgBouncer
) -> None:
    pooled = {"dsn": pgbouncer.dsn(dumper.database.dsn_for("dumper"))}
    with dumper.running(database=pooled, monitor=watched.settings) as daemon:
        daemon.wait_for("notify_silent")
        assert watched.readiness() == (200, "degraded", ["notify"])
