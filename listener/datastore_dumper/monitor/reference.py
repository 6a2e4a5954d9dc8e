"""Writes the reference page of the metrics: `python -m datastore_dumper.monitor.reference docs/reference/metrics.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.metrics import MetricWrapperBase

from datastore_dumper.monitor import metrics

_PAGE = """\
# Metrics

`/metrics` at [`monitor.listen`](configuration.md#monitor) has these, in Prometheus' text format. How to scrape, draw and be
alerted: [monitor the daemon](../how-to/monitor.md).

Counters and histograms count what this process did since it was started; what an export did is counted when it ends. No label
names a resource: `datastore-dumper status` does, and [the log](events.md). Beside these there are the usual `process_*` of
the daemon itself (not of its worker processes).

| Metric | Type | Labels | What it says |
|---|---|---|---|
"""


@dataclass(frozen=True)
class Documented:
    """A metric as whoever scrapes it sees it."""

    name: str
    type: str
    labels: tuple[str, ...]
    says: str

    @property
    def samples(self) -> tuple[str, ...]:
        """The names of its time series."""
        if self.type == "histogram":
            return tuple(f"{self.name}_{suffix}" for suffix in ("bucket", "count", "sum"))
        return (self.name,)


def documented() -> Iterator[Documented]:
    """All metrics, in the order of `metrics`."""
    for each in vars(metrics).values():
        if isinstance(each, MetricWrapperBase):
            (family,) = each.describe()
            name = f"{family.name}_total" if family.type == "counter" else family.name
            yield Documented(name, family.type, each._labelnames, family.documentation)


def reference_page() -> str:
    """The text of `docs/reference/metrics.md`."""
    rows = [
        f"| `{each.name}` | {each.type} | {', '.join(f'`{label}`' for label in each.labels)} | {each.says} |"
        for each in documented()
    ]
    return _PAGE + "\n".join(rows) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(reference_page(), encoding="utf-8")
