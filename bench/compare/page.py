"""Writes figures into docs/explanation/comparison.md, between marks, and the charts into docs/images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bench.compare.bars import Bar, Group, bar_chart
from bench.compare.figures import MEASURES, Json, Measure, median_of, range_of, rows_of, text_of, without_file
from bench.compare.table import crowd_figures

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/explanation/comparison.md"
IMAGES = ROOT / "docs/images"
FIGURES = (
    "<!-- Figures: made by `python -m bench.compare page` from bench/results/compare.json -->",
    "<!-- End of figures -->",
)
GOALS = (
    "<!-- Goals: made by `python -m bench.compare page` from bench/results/latest.json -->",
    "<!-- End of goals -->",
)
_OURS = "This product"
# What is compared with what: the product's variant, and the ways to a file of the same format in the same storage.
_RIVALS = {
    "ours-csv-s3": ("ckan-csv", "jobs", "psql"),
    "ours-csv.gz-s3": ("psql-gzip",),
    "ours-tsv-s3": ("ckan-tsv",),
    "ours-json-s3": ("ckan-json",),
    "ours-xml-s3": ("ckan-xml",),
}
# What is closer than that is a draw.
_LOST_SHARE = 0.95
_TICKS_SECONDS = 0.02  # CPU counts in steps of 0.01
_OF_STORAGE = ("uploaded_bytes", "storage_cpu_seconds")


def write_page(outcome: Json, benchmarks: Json, page: Path = PAGE, images: Path = IMAGES) -> None:
    """Make all of it from one run of the comparison and one of the benchmarks."""
    page.write_text(with_figures(page.read_text(encoding="utf-8"), outcome, benchmarks), encoding="utf-8")
    for name, svg in charts(outcome).items():
        (images / name).write_text(svg, encoding="utf-8")


def with_figures(text: str, outcome: Json, benchmarks: Json) -> str:
    """The page with the figures of these runs. Raises `ValueError` if it lacks the marks."""
    return _between(_between(text, FIGURES, _figures(outcome)), GOALS, _goals(benchmarks))


def _between(text: str, marks: tuple[str, str], lines: Iterator[str]) -> str:
    before, begin, rest = text.partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not begin or not end:
        raise ValueError(f"the page needs the lines {marks[0]} and {marks[1]}")
    return "\n".join([before + begin, *lines, end]) + after


def charts(outcome: Json) -> dict[str, str]:
    """By file name."""
    return {
        "compare-seconds.svg": _chart(outcome, MEASURES[0], "Seconds from the last commit to the finished file", 0.01),
        "compare-postgres.svg": _chart(outcome, MEASURES[2], "CPU seconds of Postgres for one file", 0.01),
        "compare-read.svg": _chart(outcome, MEASURES[6], "MB read from Postgres for one file", 0.1),
        "compare-crowd.svg": _crowd_chart(outcome),
    }


def _figures(outcome: Json) -> Iterator[str]:
    settings, machine = outcome["settings"], outcome["machine"]
    yield ""
    yield (
        f"{outcome['made_at'][:10]}, version {outcome['version']}: {settings['rows']:,} rows, {settings['runs']} rounds; "
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_bytes'] / 1e9:.0f} GB of memory, "
        f"{machine['system']}; PostgreSQL {settings['postgres']}, CKAN {settings['ckan']} with "
        f"{settings['web_workers']} web workers, Python {machine['python']}. A figure is the median, in small print the "
        "least and the greatest."
    )
    for name, change in outcome["changes"].items():
        yield from _table(outcome, name, change)
    yield from _waits(outcome)
    yield from _crowd(outcome)
    yield from _lost(outcome)
    yield ""


def _table(outcome: Json, name: str, change: Json) -> Iterator[str]:
    yield f"\n### {_title(outcome, name)}\n"
    yield from _head(["", *(measure.title for measure in MEASURES), "without a current file, s"])
    for _, way, cost in rows_of(outcome, name):
        cells = [_cell(cost, measure) for measure in MEASURES]
        jobs = cost.get("computed_of_one_job")
        computed = f" (one job, times {jobs:,})" if jobs else ""
        yield _row([f"{_name(way)}{computed}", *cells, without_file(cost)])


def _title(outcome: Json, name: str) -> str:
    title = str(outcome["changes"][name]["title"])
    return f"{title}: {outcome['settings']['commits']:,}" if name == "burst" else title


def _waits(outcome: Json) -> Iterator[str]:
    yield f"\n### What a TRUNCATE waits, {outcome['settings']['trials']} times each\n"
    yield from _head(["", "median, s", "longest, s"])
    for name, wait in outcome["truncate_waits"].items():
        yield _row([_name(outcome["ways"][name]), text_of(wait["median"], "s"), text_of(wait["max"], "s")])


def _crowd(outcome: Json) -> Iterator[str]:
    settings = outcome["settings"]
    yield f"\n### {settings['clients']} clients that download the CSV at once, for {settings['client_seconds']:g} s\n"
    yield from _head(
        [
            "",
            "downloads a second",
            "95 % within, s",
            "time in Postgres, s each second",
            "CPU of Postgres, s each second",
            "CPU of CKAN, s each second",
        ]
    )
    for each in outcome["crowd"].values():
        yield _row([each["title"], *crowd_figures(each)])


def _lost(outcome: Json) -> Iterator[str]:
    """Every figure in which another way to the same kind of file is better."""
    yield "\n### Where another way to a file of the same format in S3 is better\n"
    yield from _head(["", "", "this product", "better", "times"])
    for change in outcome["changes"]:
        costs = {name: (way, cost) for name, way, cost in rows_of(outcome, change)}
        for ours, rivals in _RIVALS.items():
            present = [rival for rival in rivals if rival in costs]
            if ours not in costs or not present:
                continue
            for measure in MEASURES:
                own = median_of(costs[ours][1], measure.key)
                best = min(present, key=lambda rival, key=measure.key: median_of(costs[rival][1], key))  # type: ignore[misc]
                least = median_of(costs[best][1], measure.key)
                if best.startswith("ckan-") and measure.key in _OF_STORAGE:
                    continue  # it stores nothing
                if least < own * _LOST_SHARE and (
                    own - least > _TICKS_SECONDS or not measure.key.endswith("cpu_seconds")
                ):
                    yield _row(
                        [
                            f"{_title(outcome, change)}, {costs[ours][0]['format']}",
                            measure.title,
                            text_of(own, measure.unit),
                            f"{text_of(least, measure.unit)} ({costs[best][0]['title']})",
                            text_of(own / least, "") if least else "",
                        ]
                    )


def _goals(benchmarks: Json) -> Iterator[str]:
    """What `make bench` wants of this product alone."""
    settings = benchmarks["settings"]
    days = sorted({benchmark["made_at"][:10] for benchmark in benchmarks["benchmarks"].values()})
    yield f"\n{' and '.join(days)}, {settings['rows']:,} rows, PostgreSQL {settings['postgres']}.\n"
    yield from _head(["", "goal", "measured", ""])
    for name, benchmark in benchmarks["benchmarks"].items():
        for goal in benchmark["goals"]:
            bound = f"{goal['sense']} {goal['bound']:,.6g}"
            verdict = "met" if goal["met"] else "**missed**"
            yield _row([f"{name}: {goal['name']}", bound, f"{goal['value']:,.3g}", verdict])
    yield ""


def _cell(cost: Json, measure: Measure) -> str:
    spread = range_of(cost, measure.key, measure.unit)
    middle = text_of(median_of(cost, measure.key), measure.unit)
    return f"{middle}<br><sub>{spread}</sub>" if spread else middle


def _name(way: Json) -> str:
    each = "" if way["storage"] != "none" else ", each download"
    return f"{way['title']}, {way['format']}{each}"


def _head(cells: list[str]) -> Iterator[str]:
    yield _row(cells)
    yield "|" + "|".join("---" if not number else "---:" for number, _ in enumerate(cells)) + "|"


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _chart(outcome: Json, measure: Measure, title: str, smallest: float) -> str:
    groups = []
    for name in outcome["changes"]:
        bars = [
            Bar(
                _name(way),
                median_of(cost, measure.key) / (1e6 if measure.unit == "MB" else 1),
                f"{text_of(median_of(cost, measure.key), measure.unit)} {measure.unit}",
                way["group"] == _OURS,
            )
            for _, way, cost in rows_of(outcome, name)
            if way["format"] in ("csv", "csv.gz")
        ]
        groups.append(Group(_title(outcome, name), bars))
    return bar_chart(f"{title}, {outcome['settings']['rows']:,} rows", measure.unit, groups, smallest)


def _crowd_chart(outcome: Json) -> str:
    settings = outcome["settings"]
    bars = [
        Bar(
            each["title"],
            each["downloads_per_second"],
            text_of(each["downloads_per_second"], "s"),
            each["title"].startswith(_OURS),
        )
        for each in outcome["crowd"].values()
    ]
    title = f"Downloads a second, {settings['clients']} clients at once, {settings['rows']:,} rows"
    return bar_chart(title, "", [Group("A CSV file", bars)], 0.01)
