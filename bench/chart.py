"""Draws the results as docs/images/benchmark.svg: `python -m bench.chart`, which `make bench` does after it has measured.

One panel for each benchmark that the results have, a bar for each median, the least and the greatest as a line. Colours follow
the reader's light or dark scheme; the description says in words what the bars say.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

RESULTS = Path(__file__).with_name("results") / "latest.json"
CHART = Path(__file__).parents[1] / "docs" / "images" / "benchmark.svg"
# What a newcomer asks first. Benchmarks that are not named here are in the table alone.
PANELS = {
    "full": "Full export, {rows} rows ({csv_bytes})",
    "gzip": "The same, compressed",
    "redump": "After a small change",
    "latency": "From commit to publication, 1,000 rows",
    "writers": "What writers pay",
    "download": "Answering a download",
}
OURS = ("daemon", "with triggers", "csv.gz", "link", "disk", "s3")
_DIGITS = {"s": 2, "us": 1, "MB": 0, "tps": 0}
_UNITS = {"us": "µs", "tps": "a second"}
_WIDTH, _NAMES, _VALUES, _ROW = 900, 380, 130, 28
# Of all charts, in light and in dark.
STYLE = """
    .page { fill: #ffffff } text { font: 14px system-ui, sans-serif; fill: #1b262c } .title { font-size: 16px; font-weight: 600 }
    .other { fill: #90a4ae } .ours { fill: #00796b } .range { stroke: #1b262c; stroke-width: 1.5 }
    @media (prefers-color-scheme: dark) {
      .page { fill: #12181b } text { fill: #eceff1 } .other { fill: #607d8b } .ours { fill: #4db6ac } .range { stroke: #eceff1 }
    }
"""


@dataclass(frozen=True)
class Bar:
    """A figure with its spread, of which one is drawn beside others of its unit."""

    name: str
    unit: str
    median: float
    least: float
    greatest: float

    @property
    def text(self) -> str:
        return f"{self.median:,.{_DIGITS.get(self.unit, 2)}f} {_UNITS.get(self.unit, self.unit)}"

    @property
    def is_ours(self) -> bool:
        """And not what it is compared with."""
        is_reference = "without" in self.name or self.name.endswith(": full")
        return any(word in self.name for word in OURS) and not is_reference


@dataclass(frozen=True)
class Panel:
    """A benchmark."""

    title: str
    bars: tuple[Bar, ...]


def panels(results: Mapping[str, Any]) -> list[Panel]:
    """What the results have to show, in the order of `PANELS`."""
    found = []
    for name, title in PANELS.items():
        benchmark = results["benchmarks"].get(name)
        if benchmark is None:
            continue
        facts = {
            key: f"{value:,}" if isinstance(value, int) else str(value) for key, value in benchmark["facts"].items()
        }
        if "csv_bytes" in benchmark["facts"]:
            facts["csv_bytes"] = f"{benchmark['facts']['csv_bytes'] / 1e6:,.0f} MB of CSV"
        bars = tuple(
            Bar(each["name"], each["unit"], each["median"], each["min"], each["max"]) for each in benchmark["series"]
        )
        found.append(Panel(title.format_map(facts), bars))
    return found


def chart(results: Mapping[str, Any]) -> str:
    """The SVG."""
    shown = panels(results)
    body, height = "", 20
    for panel in shown:
        height += 26
        body += f'  <text class="title" x="20" y="{height}">{escape(panel.title)}</text>\n'
        height += 10
        # Bars are long in proportion among those of their unit.
        for _, group in groupby(panel.bars, key=lambda bar: bar.unit):
            bars = list(group)
            scale = (_WIDTH - _NAMES - _VALUES) / max(bar.greatest for bar in bars)
            for bar in bars:
                body += "".join(f"  {line}\n" for line in _row(bar, height, scale))
                height += _ROW
        height += 12
    machine, settings = results["machine"], results["settings"]
    source = (
        f"Medians of {settings['runs']} or more runs; the line is from the least to the greatest. {machine['cores']} cores, "
        f"Postgres {settings['postgres']}, version {results['version']}, {results['made_at'][:10]}."
    )
    height += 10
    body += f'  <text x="20" y="{height}">{escape(source)}</text>\n'
    height += 16
    said = " ".join(
        f"{panel.title}: " + "; ".join(f"{bar.name} {bar.text}" for bar in panel.bars) + "." for panel in shown
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        'aria-labelledby="benchmark-title benchmark-description">\n'
        '  <title id="benchmark-title">What it costs, measured</title>\n'
        f'  <desc id="benchmark-description">{escape(said)}</desc>\n'
        f"  <style>{STYLE}  </style>\n"
        f'  <rect class="page" width="{_WIDTH}" height="{height}"/>\n{body}</svg>\n'
    )


def _row(bar: Bar, top: int, scale: float) -> Iterator[str]:
    middle = top + _ROW / 2
    end = _NAMES + bar.median * scale
    yield f'<text x="{_NAMES - 10}" y="{middle + 5:.0f}" text-anchor="end">{escape(bar.name)}</text>'
    kind = "ours" if bar.is_ours else "other"
    yield f'<rect class="{kind}" x="{_NAMES}" y="{top + 4}" width="{bar.median * scale:.1f}" height="{_ROW - 8}"/>'
    low, high = (_NAMES + value * scale for value in (bar.least, bar.greatest))
    yield f'<path class="range" d="M{low:.1f} {middle:.0f}H{high:.1f}"/>'
    yield f'<text x="{max(end, high) + 8:.1f}" y="{middle + 5:.0f}">{escape(bar.text)}</text>'


def main(results: Path = RESULTS, target: Path = CHART) -> None:
    """Draw what was measured last."""
    target.write_text(chart(json.loads(results.read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
