"""Counts exports as they end: by format and outcome, with what was read and published."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from datastore_dumper.errors import GaveWayError, TableChangedError
from datastore_dumper.monitor import metrics
from datastore_dumper.publish import FailedFormat, NewFile

Ending = Literal["failed", "gave_way", "table_changed", "lease_lost", "interrupted", "abandoned"]


def published(
    files: Sequence[NewFile], failures: Iterable[FailedFormat], *, read_rows: int, read_bytes: int, seconds: float
) -> None:
    """A table was published, in the formats in which it can be had."""
    for file in files:
        metrics.EXPORTS.labels(file.format, "published" if file.announced else "unchanged").inc()
        metrics.PUBLISHED_ROWS.labels(file.format).inc(file.manifest.rows)
        metrics.PUBLISHED_BYTES.labels(file.format).inc(file.manifest.length)
    for failure in failures:
        metrics.EXPORTS.labels(failure.format, "format_failed").inc()
    metrics.READ_ROWS.inc(read_rows)
    metrics.READ_BYTES.inc(read_bytes)
    metrics.EXPORT_DURATION.observe(seconds)
    metrics.PUBLISH_TIMESTAMP.set_to_current_time()


def ended(formats: Iterable[str], ending: Ending) -> None:
    """An export ended without anything being published."""
    for name in formats:
        metrics.EXPORTS.labels(name, ending).inc()
    if ending == "lease_lost":
        metrics.LEASES_LOST.inc()


def ending_of(error: Exception) -> Ending:
    """What an export that ended with this error counts as."""
    if isinstance(error, GaveWayError):
        return "gave_way"
    return "table_changed" if isinstance(error, TableChangedError) else "failed"
