"""The daemon dies at each failpoint; another one finds all of it again. `make failpoints` runs all cases, `make test` some."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from datastore_dumper.failpoints import EXIT_CODE, NAMES, VARIABLE, parse
from tests.failpoints.scenario import Scenario, template
from tests.support.daemon import DaemonProcess, Dumper
from tests.support.postgres import PostgresServer, ScratchDatabase
from tests.support.waiting import eventually

SEGMENTS = ["before_segment", "within_segment", "after_segment"]
PLACES = [*NAMES, *(f"worker/{name}" for name in SEGMENTS)]
CASES = [
    pytest.param(place, action, storage, id=f"{place}-{action}-{storage}")
    for place in PLACES
    for action in ("kill", "exit")
    for storage in ("disk", "s3")
]
SAMPLE = {
    "after_claim-kill-disk",
    "within_segment-exit-disk",
    "worker/within_segment-kill-s3",
    "after_announce-kill-s3",
    "after_part-kill-s3",
    "before_complete-kill-disk",
    "within_publish-kill-disk",
    "after_publish-exit-s3",
    "within_garbage-kill-disk",
    "after_attach-kill-disk",
}
DEATH_SECONDS = 60


@pytest.fixture(scope="module")
def filled_template(postgres_server: PostgresServer) -> Iterator[str]:
    with template(postgres_server) as name:
        yield name


@pytest.fixture
def database(postgres_server: PostgresServer, filled_template: str) -> Iterator[ScratchDatabase]:
    with postgres_server.new_database("failpoint", template=filled_template) as name:
        yield ScratchDatabase(postgres_server, name)


@pytest.fixture
def stored(dumper: Dumper, request: pytest.FixtureRequest) -> Dumper:
    """The dumper with the storage that the parameter `storage` names."""
    if request.getfixturevalue("storage") == "s3":
        server = request.getfixturevalue("s3_server")
        dumper.settings["storage"] = server.settings(request.getfixturevalue("s3_bucket"))
    return dumper


@pytest.mark.parametrize(
    ("place", "action", "storage"),
    [case for case in CASES if os.environ.get("FAILPOINTS") == "all" or case.id in SAMPLE],
)
def test_whoever_dies_anywhere_is_replaced(place: str, action: str, storage: str, stored: Dumper) -> None:
    scenario = Scenario(stored, published_before=action == "kill")
    if place.startswith("worker/"):
        # The daemon outlives its worker processes, and tries again and again.
        with scenario.armed(f"{place}={action}") as daemon:
            daemon.wait_for("export_failed", resource_id="big", timeout_seconds=DEATH_SECONDS)
            daemon.kill()
    else:
        with scenario.armed(f"daemon/{place}={action}") as daemon:
            status = daemon.process.wait(DEATH_SECONDS)
            assert status == (-signal.SIGKILL if action == "kill" else EXIT_CODE)
    scenario.converge()


@pytest.mark.parametrize("storage", ["disk", "s3"])
def test_the_main_path_comes_by_every_failpoint(storage: str, stored: Dumper, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    scenario = Scenario(stored, published_before=False)
    with scenario.armed(",".join(f"{name}=note:{marks}" for name in NAMES)) as daemon:
        eventually(lambda: (marks / "after_renew").exists(), timeout=DEATH_SECONDS)
        scenario.unlock()
        daemon.wait_for("published", resource_id="big", timeout_seconds=DEATH_SECONDS)
        daemon.wait_for("published", resource_id="small", timeout_seconds=DEATH_SECONDS)
        eventually(lambda: (marks / "after_garbage").exists(), timeout=DEATH_SECONDS)
        eventually(lambda: (marks / "after_release").exists(), timeout=DEATH_SECONDS)
    assert {path.name for path in marks.iterdir()} == set(NAMES)
    for name in SEGMENTS:
        pids = set(map(int, (marks / name).read_text().split()))
        assert daemon.process.pid in pids
        assert len(pids) > 1, f"no worker process came by {name}"
    scenario.converge()


def test_cases_of_the_sample_exist() -> None:
    assert {case.id for case in CASES} >= SAMPLE


def test_a_failpoint_or_action_that_does_not_exist_is_refused() -> None:
    text = "before_claim=kill@2,worker/within_segment=exit"
    assert parse(text, in_worker=False) == {"before_claim": "kill@2"}
    assert parse(text, in_worker=True) == {"before_claim": "kill@2", "within_segment": "exit"}
    for text in ("before_lunch=kill", "before_claim=stroll", "nobody/before_claim=kill", "before_claim"):
        with pytest.raises(ValueError, match=VARIABLE):
            parse(text, in_worker=False)


def test_a_daemon_does_not_run_with_a_failpoint_that_does_not_exist(dumper: Dumper) -> None:
    with DaemonProcess.start(dumper.write_config(), {VARIABLE: "before_lunch=kill"}) as daemon:
        assert daemon.process.wait(DEATH_SECONDS) != 0
