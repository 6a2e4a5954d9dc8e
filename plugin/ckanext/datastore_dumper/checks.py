"""What `ckan datastore-dumper check` tries: all that has to be right for ready-made dumps to be handed out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import ckan.plugins as p

from ckanext.datastore_dumper import overview
from ckanext.datastore_dumper.compat import objection
from ckanext.datastore_dumper.lookup import published_file
from ckanext.datastore_dumper.portal import Portal
from datastore_dumper.errors import ConfigError, DumperError

# No resource id, and no name that CKAN's DataStore can have: asking for its export shows the right and does nothing.
NO_TABLE = ""


def problems() -> list[str]:
    """One sentence for each thing that is amiss, the way out included. Empty: files are handed out."""
    portal: Portal = p.get_plugin("datastore_dumper").portal
    found: list[str] = []
    for check in (_settings, _offered, _daemon, _requests, _files):
        try:
            found += check(portal)
        except ConfigError as error:
            found.append(portal.explain(error))
            break
        except DumperError as error:
            found.append(portal.explain(error))
    return list(dict.fromkeys(found))


def _settings(portal: Portal) -> Iterable[str]:
    """Raises `ConfigError`: reading them and opening the storage is the check."""
    _ = portal.settings, portal.storage
    return ()


def _offered(portal: Portal) -> Iterator[str]:
    if (reason := portal.not_offered) is not None:
        yield f"no ready-made dumps are handed out: {reason}"


def _daemon(portal: Portal) -> Iterator[str]:
    if not overview.daemon_count():
        yield "no daemon is connected to the DataStore database (start `datastore-dumper run`)"


def _requests(portal: Portal) -> Iterable[str]:
    overview.request_export(NO_TABLE, is_full=False)
    return ()


def _files(portal: Portal) -> Iterator[str]:
    """The newest resource with files stands for all of them: whether its files fit this site and are in the storage."""
    entries, totals = overview.resource_list(
        search=None, also_ids=[], state=None, sort="generated_at", is_descending=True, most=1, skipped=0
    )
    if not totals.files:
        yield "no file has been published yet"
        return
    (entry,) = entries
    for format in entry.formats:
        file = published_file(entry.resource_id, format)
        if file is None:
            continue
        objected = objection(file.compat, portal.compat, portal.settings.alterations)
        if objected:
            yield f"files in the format {format} are not handed out: {objected}"
        stored = portal.storage.stat(file.storage_key)
        if stored.length != file.bytes:
            yield f"{file.storage_key} has {stored.length} bytes in the storage, not {file.bytes}"
