"""Every benchmark runs, in its smallest size, and leaves figures that can be read by a program. How good they are is not
tested: that depends on the machine."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bench.__main__ import BENCHMARKS, main
from bench.measurements import Goal, Outcome, Series
from bench.report import write

SMALL = ["--rows", "1000", "--runs", "1", "--times", "2", "--tables", "20"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a run of all benchmarks wrote."""
    path = tmp_path_factory.mktemp("bench") / "results" / "latest.json"
    result = CliRunner().invoke(main, [*SMALL, "--output", str(path)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    for name in BENCHMARKS:
        assert f"\n{name} " in f"\n{result.output}"
    return dict(json.loads(path.read_text()))


def test_a_run_says_where_and_how_it_was_made(run: dict[str, Any]) -> None:
    sizes = {"rows": 1000, "runs": 1, "times": 2, "tables": 20}
    assert run["settings"] == {**sizes, "postgres": run["settings"]["postgres"]}
    assert run["machine"]["cores"] >= 1
    assert run["machine"]["memory_bytes"] > 2**28
    assert set(run["benchmarks"]) == set(BENCHMARKS)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_has_series_and_goals(run: dict[str, Any], name: str) -> None:
    outcome = run["benchmarks"][name]
    assert outcome["series"]
    assert outcome["goals"]
    for series in outcome["series"]:
        assert series["min"] <= series["median"] <= series["max"]
        assert series["values"]
        assert all(math.isfinite(value) and value >= 0 for value in series["values"])
    for goal in outcome["goals"]:
        met = goal["value"] >= goal["bound"] if goal["sense"] == "at least" else goal["value"] <= goal["bound"]
        assert goal["met"] is met


def test_bytes_are_counted(run: dict[str, Any]) -> None:
    facts = run["benchmarks"]["redump"]["facts"]
    for kind in ("disk", "s3"):
        assert facts[f"{kind}: full"]["read"] == facts[f"{kind}: full"]["uploaded"] - len(header())
        assert facts[f"{kind}: full"]["reused"] == 0


def test_memory_and_space_are_seen(run: dict[str, Any]) -> None:
    series = {each["name"]: each for each in run["benchmarks"]["growth"]["series"]}
    assert series["1,000 rows: peak memory"]["median"] > 10


def test_a_benchmark_is_chosen_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "writers.json"
    result = CliRunner().invoke(main, ["writers", *SMALL, "--output", str(path)], catch_exceptions=False)
    assert result.exit_code == 0
    assert list(json.loads(path.read_text())["benchmarks"]) == ["writers"]


def outcome_of(seconds: float) -> Outcome:
    outcome = Outcome()
    outcome.add("something", "s", [seconds])
    return outcome


def test_what_was_not_run_again_stays_if_all_else_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "latest.json"
    write(path, {"full": outcome_of(1), "gzip": outcome_of(2)}, {"rows": 1000})
    first = json.loads(path.read_text())["benchmarks"]
    write(path, {"gzip": outcome_of(3)}, {"rows": 1000})
    second = json.loads(path.read_text())["benchmarks"]
    assert list(second) == ["full", "gzip"]
    assert second["full"] == first["full"]
    assert [second[name]["series"][0]["median"] for name in second] == [1, 3]
    assert all(benchmark["made_at"] for benchmark in second.values())
    write(path, {"gzip": outcome_of(4)}, {"rows": 2000})
    assert list(json.loads(path.read_text())["benchmarks"]) == ["gzip"]


def test_percentiles_are_of_the_nearest_rank() -> None:
    series = Series("numbers", "s", tuple(float(number) for number in range(1, 201)))
    assert (series.percentile(50), series.percentile(95), series.percentile(99)) == (100, 190, 198)
    assert Series("one", "s", (7.0,)).percentile(99) == 7


def test_goals_have_a_sense() -> None:
    assert Goal("share", 0.7, 0.6, at_least=True).met
    assert not Goal("share", 0.5, 0.6, at_least=True).met
    assert Goal("seconds", 0.5, 0.5).met
    assert not Goal("seconds", 0.6, 0.5).met


def header() -> bytes:
    return b"_id,station,remark,reading,people,measured_at,amount,valid,tags,place\r\n"
