"""Every metric, once: name, labels, unit and what it says. Whoever does a thing counts it; `web` hands the counts out.

Names and units are Prometheus' (https://prometheus.io/docs/practices/naming/). No label has more values than there are
formats, outcomes or kinds of work: none names a resource. The reference page is made from here (`reference`).
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)

# When a series began is no business of whoever scrapes it.
disable_created_metrics()  # type: ignore[no-untyped-call]
REGISTRY = CollectorRegistry()

_PREFIX = "datastore_dumper"
_SHORT_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_LONG_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
_DELAY_BUCKETS = (1, 5, 10, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 21600, 86400)

OUTCOMES = (
    "published", "unchanged", "format_failed", "gave_way", "table_changed", "failed", "lease_lost", "interrupted", "abandoned",
)  # fmt: skip
STORAGE_OPERATIONS = ("check", "delete", "list", "open", "read_mark", "stat", "sweep", "write", "write_mark")
STORAGE_ERROR_KINDS = ("unavailable", "missing", "changed", "denied", "config", "other")
HEARTBEAT_OUTCOMES = ("ok", "failed")
FINDINGS = ("attached", "chosen", "dropped", "retired", "drifted")


def _counter(name: str, says: str, labels: tuple[str, ...] = ()) -> Counter:
    return Counter(name, says, labels, namespace=_PREFIX, registry=REGISTRY)


def _gauge(name: str, says: str, labels: tuple[str, ...] = ()) -> Gauge:
    return Gauge(name, says, labels, namespace=_PREFIX, registry=REGISTRY)


def _histogram(name: str, says: str, buckets: tuple[float, ...], labels: tuple[str, ...] = ()) -> Histogram:
    return Histogram(name, says, labels, namespace=_PREFIX, registry=REGISTRY, buckets=buckets)


# The daemon itself.

BUILD_INFO = _gauge("build_info", "Always 1; the labels say what runs.", ("version", "python"))
READY = _gauge("ready", "1 if /readyz answers 200, else 0.")
CONFIG_RELOAD_SUCCESSFUL = _gauge(
    "config_last_reload_successful", "1 if the configuration was right when it was read last, else 0."
)
CONFIG_RELOAD_TIMESTAMP = _gauge(
    "config_last_reload_success_timestamp_seconds", "When a right configuration was read last, since the epoch."
)
HEARTBEATS = _counter("heartbeats", "Requests to monitor.heartbeat_url, by outcome (ok, failed).", ("outcome",))

# What is to do, in the whole database: each daemon says the same, so take the maximum of several.

OLDEST_CHANGE_AGE = _gauge(
    "oldest_unpublished_change_age_seconds",
    "Age of the oldest change of a table that is looked after and whose files do not show it yet; 0 if there is none.",
)
PENDING_RESOURCES = _gauge(
    "pending_resources",
    "Tables with unpublished changes or a request, by state: exporting, failing (between attempts), due, waiting.",
    ("state",),
)
LOOK_TIMESTAMP = _gauge(
    "last_look_timestamp_seconds", "When the daemon last looked for due tables with success, since the epoch."
)
LOOK_DURATION = _histogram("look_duration_seconds", "How long looking for due tables took.", _SHORT_BUCKETS)

# Exports, of this daemon.

EXPORTS = _counter(
    "exports",
    "Files made or tried, by format and outcome: published; unchanged (equal bytes, the object stays); format_failed (the "
    "table cannot be had in it); gave_way, table_changed (to be tried again soon); failed; lease_lost; interrupted "
    "(Postgres was gone); abandoned (the daemon stopped).",
    ("format", "outcome"),
)
EXPORT_DURATION = _histogram(
    "export_duration_seconds", "How long publishing a table took, from the claim, in all of its formats.", _LONG_BUCKETS
)
PUBLISH_DELAY = _histogram(
    "publish_delay_seconds",
    "Age of the oldest of the changes when the files that show them were published.",
    _DELAY_BUCKETS,
)
PUBLISH_TIMESTAMP = _gauge(
    "last_publish_timestamp_seconds", "When this daemon last published a table, since the epoch."
)
PUBLISHED_ROWS = _counter("published_rows", "Rows of published files.", ("format",))
PUBLISHED_BYTES = _counter("published_bytes", "Bytes of published files, new or reused.", ("format",))
READ_ROWS = _counter("read_rows", "Rows that were read from Postgres for files, once for each format that reads them.")
READ_BYTES = _counter("read_bytes", "Bytes of these rows as they stand in files.")
LEASES_HELD = _gauge("leases_held", "Tables that this daemon is exporting.")
LEASES_LOST = _counter("leases_lost", "Leases that ran out during an export: another daemon exports the table again.")
SNAPSHOTS_HELD = _gauge("snapshots_held", "Snapshots that this daemon holds open in Postgres.")
SNAPSHOT_AGE = _gauge(
    "oldest_snapshot_age_seconds", "For how long the oldest of them has been held: VACUUM removes nothing newer."
)

# Storage.

STORAGE_DURATION = _histogram(
    "storage_operation_duration_seconds",
    "How long an operation of the storage took, failed ones too; writing includes waiting for the rows.",
    _LONG_BUCKETS,
    ("operation",),
)
STORAGE_ERRORS = _counter(
    "storage_errors",
    "Operations of the storage that failed, by kind: unavailable, missing, changed, denied, config, other.",
    ("operation", "kind"),
)
UPLOADED_BYTES = _counter("uploaded_bytes", "Bytes that went to the storage.")
REUSED_BYTES = _counter("reused_bytes", "Bytes of published files that the storage copied by itself.")
GARBAGE_DELETED = _counter("garbage_deleted", "Superseded objects that were deleted.")
STORAGE_VERIFIED = _gauge("storage_verified", "1 if the storage answered last time and is this database's, else 0.")

# Writers.

GAVE_WAY = _counter(
    "gave_way", "Writers that waited for a table until an export of it was cancelled (TRUNCATE, ALTER, DROP)."
)
WRITERS_WAITED = _counter("writers_waited_seconds", "For how long they had waited by then.")

# Keeping house.

RECONCILE_DURATION = _histogram("reconcile_duration_seconds", "How long reconciling all tables took.", _LONG_BUCKETS)
RECONCILE_TIMESTAMP = _gauge(
    "last_reconcile_timestamp_seconds", "When all tables were last reconciled, since the epoch."
)
RECONCILE_FINDINGS = _counter(
    "reconcile_findings",
    "What was mended: attached (tables that got triggers), chosen (tables that get other files than before, or none), dropped "
    "(tables that are gone), retired (files of such tables or of unwanted formats), drifted (tables that no file shows, though "
    "no change was recorded).",
    ("finding",),
)
UNATTACHED_RESOURCES = _gauge("unattached_resources", "Tables that lack triggers and cannot be given them now.")

# Postgres.

CONNECTIONS_LOST = _counter(
    "connections_lost", "Connections that broke and were made anew, by what they are for.", ("purpose",)
)
CONNECTING_FAILED = _counter("connecting_failed", "Attempts to make them anew that failed.", ("purpose",))
NOTIFICATIONS = _counter("notifications", "Notifications from triggers.")
NOTIFY_STATE = _gauge(
    "notify_state",
    "1 for the present state: flowing, silent (pings do not come back), off (datastore_dumper.notify), unknown (not yet "
    "tried).",
    ("state",),
)
NOTIFY_ROUND_TRIP = _histogram(
    "notify_round_trip_seconds", "Time from NOTIFY to its arrival at the daemon's listener.", _SHORT_BUCKETS
)

ProcessCollector(registry=REGISTRY)


def begin(formats: Iterable[str]) -> None:
    """Let the series that alerts count be there from the start: the first increase of one that was not is not seen."""
    for format_name, outcome in product(formats, OUTCOMES):
        EXPORTS.labels(format_name, outcome)
    for operation, kind in product(STORAGE_OPERATIONS, STORAGE_ERROR_KINDS):
        STORAGE_ERRORS.labels(operation, kind)
    for outcome in HEARTBEAT_OUTCOMES:
        HEARTBEATS.labels(outcome)
    for finding in FINDINGS:
        RECONCILE_FINDINGS.labels(finding)
