"""The whole comparison runs, on a small table, and what the page says is what the committed runs measured."""

from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bench.compare.__main__ import BENCHMARKS, RESULTS, main
from bench.compare.bars import Bar, Group, bar_chart
from bench.compare.figures import MEASURES, median_of, text_of
from bench.compare.page import IMAGES, PAGE, charts, with_figures, write_page
from datastore_dumper.config.model import DebounceConfig

ROWS, COMMITS = 3000, 20
SMALL = [
    "--rows",
    str(ROWS),
    "--runs",
    "1",
    "--commits",
    str(COMMITS),
    "--quiet",
    "0.2",
    "--trials",
    "1",
    "--seconds",
    "0.5",
]
CSV = ["jobs", "psql", "psql-gzip", "ours-csv-disk", "ours-csv-s3", "ours-csv.gz-s3"]
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a run wrote. Of the formats beside CSV it has one, for the sake of time."""
    path = tmp_path_factory.mktemp("compare") / "compare.json"
    result = CliRunner().invoke(
        main,
        ["run", *SMALL, "--format", "json", "--output", str(path)],
        catch_exceptions=False,
    )
    assert result.exit_code == 0, result.output
    assert "What a TRUNCATE waits" in result.output
    return dict(json.loads(path.read_text()))


def test_every_way_made_a_file_of_every_change(outcome: dict[str, Any]) -> None:
    assert set(outcome["changes"]) == {"first", "row", "append", "burst", "reload"}
    first = outcome["changes"]["first"]["costs"]
    assert list(first) == ["ckan-csv", "ckan-json", *CSV, "ours-json-s3"]
    for name in ("row", "append", "burst", "reload"):
        assert list(outcome["changes"][name]["costs"]) == CSV
    for change in outcome["changes"].values():
        for cost in change["costs"].values():
            assert all(math.isfinite(median_of(cost, measure.key)) for measure in MEASURES)
            assert median_of(cost, "seconds") > 0
            assert median_of(cost, "postgres_seconds") > 0
            assert median_of(cost, "block_bytes") > 0
            assert median_of(cost, "memory_bytes") > 1e6


def test_bytes_are_those_of_the_table(outcome: dict[str, Any]) -> None:
    sizes = {name: way["file_bytes"] for name, way in outcome["ways"].items()}
    # Byte for byte CKAN's dump; the job's has a byte order mark.
    assert sizes["ckan-csv"] == sizes["ours-csv-disk"] == sizes["ours-csv-s3"] == sizes["jobs"] - 3
    assert sizes["ckan-json"] == sizes["ours-json-s3"]
    assert sizes["psql-gzip"] < sizes["psql"] / 2
    for name in CSV:
        read = outcome["changes"]["first"]["costs"][name]["read_bytes"]
        assert read > 0.9 * sizes["ckan-csv"], "everybody reads by way of the proxy"


def test_jobs_of_a_burst_are_multiplied(outcome: dict[str, Any]) -> None:
    jobs = outcome["changes"]["burst"]["costs"]["jobs"]
    assert jobs["computed_of_one_job"] == COMMITS
    single = outcome["changes"]["row"]["costs"]["jobs"]
    assert jobs["uploaded_bytes"]["median"] > 0.99 * COMMITS * single["uploaded_bytes"]["median"]
    assert jobs["memory_bytes"]["median"] < 2 * single["memory_bytes"]["median"]


def test_how_long_there_is_no_current_file(outcome: dict[str, Any]) -> None:
    costs = outcome["changes"]["burst"]["costs"]
    quiet, waited = DebounceConfig().quiet_seconds, outcome["changes"]["burst"]["quiet_seconds"]
    ours = costs["ours-csv-s3"]
    assert ours["without_file"]["seconds"] == pytest.approx(ours["seconds"]["median"] - waited + quiet, rel=1e-4)
    assert costs["psql"]["without_file"]["seconds"] > 1800
    assert costs["jobs"]["without_file"]["kind"] == "stale"
    assert outcome["changes"]["first"]["costs"]["ckan-csv"]["without_file"] == {"kind": "always slow"}


def test_writers_and_clients_were_there(outcome: dict[str, Any]) -> None:
    assert list(outcome["truncate_waits"]) == ["ckan-csv", *CSV]
    assert set(outcome["crowd"]) == {"psql", "ckan-csv", "ours-csv-s3", "ours-csv-disk"}
    for crowd in outcome["crowd"].values():
        assert crowd["downloads"] > 0
        assert crowd["finished"] + crowd["unfinished"] >= outcome["settings"]["clients"]
    # The bucket is asked, and nobody else.
    assert outcome["crowd"]["psql"]["postgres_seconds_per_second"] == 0
    assert outcome["crowd"]["ours-csv-s3"]["ckan_cpu_seconds_per_second"] > 0


def test_page_and_charts_are_made_of_a_run(outcome: dict[str, Any], tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    write_page(outcome, json.loads(BENCHMARKS.read_text()), page, tmp_path)
    text = page.read_text(encoding="utf-8")
    assert f"{ROWS:,} rows" in text
    seconds = text_of(outcome["changes"]["row"]["costs"]["ours-csv-s3"]["seconds"]["median"], "s")
    assert re.search(rf"^\| This product, S3, csv \| {re.escape(seconds)} ", text, re.MULTILINE)
    for name in charts(outcome):
        assert ET.parse(tmp_path / name).getroot().tag == f"{SVG}svg"


def test_the_committed_page_has_the_figures_of_the_committed_runs() -> None:
    committed, benchmarks = (json.loads(path.read_text(encoding="utf-8")) for path in (RESULTS, BENCHMARKS))
    text = PAGE.read_text(encoding="utf-8")
    assert text == with_figures(text, committed, benchmarks), "run: python -m bench.compare page"
    for name, svg in charts(committed).items():
        assert (IMAGES / name).read_text(encoding="utf-8") == svg, "run: python -m bench.compare page"
        assert f"(../images/{name})" in text


def test_a_chart_says_all_in_words_and_escapes_them() -> None:
    svg = bar_chart("Seconds", "s", [Group("A & B", [Bar("psql | <gzip>", 100, "100 s"), Bar("x", 0, "0 s", True)])], 1)
    root = ET.fromstring(svg)
    described = root.find(f"{SVG}desc")
    assert described is not None
    assert described.text == "A & B: psql | <gzip> 100 s; x 0 s."
    assert root.attrib["role"] == "img"
    assert "prefers-color-scheme: dark" in svg
    page, *bars = root.iter(f"{SVG}rect")
    assert [rect.attrib["class"] for rect in (page, *bars)] == ["page", "other", "ours"]
    assert float(bars[0].attrib["width"]) > 10 * float(bars[1].attrib["width"]) > 0
