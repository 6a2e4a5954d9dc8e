"""The chart in the README is what was measured last."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest

from bench.chart import CHART, PANELS, RESULTS, chart, panels

_SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))
    return found


def test_the_committed_chart_is_that_of_the_committed_results(results: dict[str, Any]) -> None:
    assert CHART.read_text(encoding="utf-8") == chart(results), "run `python -m bench.chart`"


def test_every_figure_is_drawn_and_said(results: dict[str, Any]) -> None:
    drawn = ElementTree.fromstring(chart(results))
    said = drawn.findtext(f"{_SVG}desc") or ""
    bars = [rect for rect in drawn.iter(f"{_SVG}rect") if rect.get("class") != "page"]
    expected = [each for name in PANELS for each in results["benchmarks"].get(name, {"series": []})["series"]]
    assert len(bars) == len(expected) > 0
    assert all(each["name"] in said for each in expected)
    assert drawn.findtext(f"{_SVG}title")


def test_bars_are_long_in_proportion() -> None:
    series = [
        {"name": name, "unit": unit, "median": value, "min": value, "max": value}
        for name, unit, value in (("a <b>", "s", 1.0), ("daemon", "s", 4.0), ("with triggers", "us", 0.5))
    ]
    results = {
        "benchmarks": {"full": {"series": series, "facts": {"rows": 1234567, "csv_bytes": 10**9}}},
        "machine": {"cores": 2},
        "settings": {"runs": 3, "postgres": "18.6"},
        "version": "1.0.0",
        "made_at": "2026-03-01T00:00:00+00:00",
    }
    drawn = ElementTree.fromstring(chart(results))
    widths = [float(rect.get("width", 0)) for rect in drawn.iter(f"{_SVG}rect")][1:]
    assert widths[1] == pytest.approx(4 * widths[0])
    assert widths[2] == pytest.approx(widths[1])
    assert panels(results)[0].title == "Full export, 1,234,567 rows (1,000 MB of CSV)"
    assert [rect.get("class") for rect in drawn.iter(f"{_SVG}rect")] == ["page", "other", "ours", "ours"]
