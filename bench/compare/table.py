"""Prints the comparison."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table

from bench.compare.figures import MEASURES, Json, median_of, range_of, rows_of, text_of, without_file


def show(console: Console, outcome: Json) -> None:
    """Medians of the rounds, with the least and the greatest time."""
    for name, change in outcome["changes"].items():
        table = _table(change["title"])
        table.add_column("", no_wrap=True)
        for measure in MEASURES:
            table.add_column(measure.title, justify="right", no_wrap=measure is MEASURES[0])
        table.add_column("without a current file, s")
        for _, way, cost in rows_of(outcome, name):
            figures = [text_of(median_of(cost, measure.key), measure.unit) for measure in MEASURES]
            figures[0] += f" {range_of(cost, 'seconds', 's')}"
            table.add_row(f"{way['title']}, {way['format']}", *figures, without_file(cost))
        console.print(table)
    waits = _table("What a TRUNCATE waits")
    for heading in ("", "median, s", "longest, s"):
        waits.add_column(heading, justify="right" if heading else "left")
    for name, wait in outcome["truncate_waits"].items():
        way = outcome["ways"][name]
        waits.add_row(f"{way['title']}, {way['format']}", text_of(wait["median"], "s"), text_of(wait["max"], "s"))
    console.print(waits)
    crowd = _table(f"{outcome['settings']['clients']} clients at once")
    for heading in ("", "downloads/s", "p95, s", "Postgres, s/s", "CPU of Postgres, s/s", "CPU of CKAN, s/s"):
        crowd.add_column(heading, justify="right" if heading else "left")
    for each in outcome["crowd"].values():
        crowd.add_row(each["title"], *crowd_figures(each))
    console.print(crowd)


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)


def crowd_figures(each: Json) -> list[str]:
    """Of one kind of download, in the order of the headings above."""
    bound = "> " if each["p95_is_lower_bound"] else ""
    return [
        text_of(each["downloads_per_second"], "s"),
        bound + text_of(each["p95_seconds"], "s"),
        f"{each['postgres_seconds_per_second']:.3f}",
        f"{each['postgres_cpu_seconds_per_second']:.3f}",
        f"{each['ckan_cpu_seconds_per_second']:.3f}",
    ]
