"""What a running daemon takes over from a configuration that was read again, and what has to wait for a restart. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from datastore_dumper.config.fields import Path, settings, value_of
from datastore_dumper.config.model import Config
from datastore_dumper.config.values import Section

S = TypeVar("S", bound=Section)

# The daemon asks for these each time it needs them. A setting that is not here is one that it asks for at its start.
LIVE = {
    "ckan.compat",
    "ckan.ms_in_timestamp",
    "ckan.url",
    "debounce.max_delay_seconds",
    "debounce.quiet_seconds",
    "export.first_dumps_per_minute",
    "export.formats",
    "export.header",
    "export.lock_timeout_seconds",
    "export.omit_id",
    "export.retry_initial_seconds",
    "export.retry_max_seconds",
    "export.segment_bytes",
    "log.format",
    "log.level",
    "look.interval_seconds",
    "look.reconcile_interval_seconds",
    "roles.ckan_read",
    "shutdown_timeout_seconds",
    "storage.grace_seconds",
    "storage.link_expiry_seconds",
    "tables.exclude",
    "tables.formats",
    "tables.include",
    "tables.min_bytes",
    "tables.min_rows",
    "tables.policy",
    "tables.unasked_days",
}


def take_over(running: Config, read: Config) -> tuple[Config, list[str], list[str]]:
    """The configuration to go on with, the names of the settings that are new in it, and of those that need a restart."""
    changed = [
        setting for setting in settings().values() if value_of(running, setting.path) != value_of(read, setting.path)
    ]
    live = [setting.path for setting in changed if setting.name in LIVE]
    waiting = [setting.name for setting in changed if setting.name not in LIVE]
    return _with(running, read, live), [".".join(path) for path in live], waiting


def _with(running: S, read: S, paths: Iterable[Path]) -> S:
    """`running` with the values that `read` has at these paths. Both are valid, and what depends on each other is all live."""
    by_key: dict[str, list[Path]] = {}
    for key, *rest in paths:
        by_key.setdefault(key, []).append(tuple(rest))
    update: dict[str, object] = {}
    for key, rests in by_key.items():
        old, new = getattr(running, key), getattr(read, key)
        update[key] = _with(old, new, rests) if isinstance(old, Section) else new
    return running.model_copy(update=update)
