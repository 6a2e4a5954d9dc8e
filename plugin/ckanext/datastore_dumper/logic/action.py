"""Actions of CKAN's API. Each name in `__all__` is one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

import ckan.plugins as p
import ckan.plugins.toolkit as tk
from ckanext.datastore.backend import DatastoreBackend

from ckanext.datastore_dumper import catalogue, overview
from ckanext.datastore_dumper.downloads import Offer
from ckanext.datastore_dumper.logic import schema
from ckanext.datastore_dumper.menu import ready_files
from ckanext.datastore_dumper.portal import Portal
from datastore_dumper.errors import DumperError

__all__ = ["datastore_dump_list", "datastore_dump_request", "datastore_dump_status"]

log = logging.getLogger(__name__)

_BIGINT_MAX = 2**63 - 1  # of Postgres, which has fewer rows


@tk.side_effect_free  # type: ignore[untyped-decorator]
def datastore_dump_status(context: dict[str, Any], data_dict: dict[str, Any]) -> dict[str, Any]:
    """Return how the ready-made dumps of a DataStore resource are.

    Whoever may call ``datastore_search`` for the resource may call this.

    :param resource_id: id or alias of the resource's table
    :type resource_id: string

    **Results:**

    :rtype: A dictionary with the following keys
    :param resource_id: id of the resource
    :type resource_id: string
    :param state: ``ready``: all files show the table as it is; ``waiting``: they do not, or there are none yet;
        ``exporting``: they are being made; ``failing``: the last attempt failed; ``unkept``: the daemon is configured to
        keep no files of this table now; ``none``: this table never gets files
    :type state: string
    :param choice: ``always`` or ``on_demand`` where files are kept; ``excluded``, ``too_small`` or ``not_asked`` where they
        are not (with ``not_asked``, the first request for a dump asks for them); None: not decided yet
    :type choice: string
    :param choice_detail: why no files are kept; only for those who may change the resource
    :type choice_detail: string
    :param pending_since: when the oldest change was made that the files do not show (UTC), or None
    :type pending_since: string
    :param pending_changes: number of transactions that the files do not show
    :type pending_changes: int
    :param requested_at: when an export was asked for that has not been made yet (UTC), or None
    :type requested_at: string
    :param progress: None, or of the export under way: ``since`` (UTC), ``rows`` so far over all formats, and
        ``expected_rows``, an estimate or None
    :type progress: dictionary
    :param formats: one dictionary for each format that can be downloaded, and each that cannot be had: ``format``, ``bom``,
        ``url``, ``ready`` (a request gets the ready file), ``fresh`` (it shows the table as it is), and of the file
        ``bytes``, ``rows`` and ``generated_at`` (the time of the state that it shows, UTC), or ``error``
    :type formats: list of dictionaries
    :param last_error: why the last attempt failed; only for those who may change the resource
    :type last_error: string
    """
    data = _validated(data_dict, schema.dump_status_schema, context)
    resource_id = _real_id(data["resource_id"])
    tk.check_access("datastore_dump_status", context, {"resource_id": resource_id})
    # The action, too: what plugins put around it has its say, as with a download.
    asked = {key: context[key] for key in ("user", "auth_user_obj", "ignore_auth") if key in context}
    tk.get_action("datastore_search")(asked, {"resource_id": resource_id, "limit": 0, "include_total": False})
    with _told(resource_id):
        status = overview.resource_status(resource_id)
        result: dict[str, Any] = {
            "resource_id": resource_id,
            "state": "none",
            "choice": None,
            "pending_since": None,
            "pending_changes": 0,
            "requested_at": None,
            "progress": None,
            "formats": [],
        }
        may_change = _may("datastore_dump_request", context, resource_id)
        # Files are of all rows, and so are their sizes and what could not be written.
        if status is None or (_portal().row_filters and not may_change):
            return result
        ready = ready_files(resource_id, status, _portal())
    if status.exporting_since is not None:
        result["progress"] = {
            "since": _utc(status.exporting_since),
            "rows": status.exported_rows,
            "expected_rows": status.expected_rows,
        }
    if may_change:
        result["last_error"] = status.last_error
        result["choice_detail"] = status.choice_detail
    return {
        **result,
        "state": status.state,
        "choice": status.choice,
        "pending_since": _utc(status.pending_since),
        "pending_changes": status.pending_changes,
        "requested_at": _utc(status.requested_at),
        "formats": [_format(resource_id, file, file.format in ready) for file in status.files],
    }


@tk.side_effect_free  # type: ignore[untyped-decorator]
def datastore_dump_list(context: dict[str, Any], data_dict: dict[str, Any]) -> dict[str, Any]:
    """Return how the dumps of all DataStore resources are, page by page. Only sysadmins may call this.

    :param q: part of the id or name of resources, or of the name or title of their datasets (optional)
    :type q: string
    :param state: only those that are ``ready``, ``waiting``, ``exporting``, ``failing`` or ``unkept`` (optional)
    :type state: string
    :param sort: ``resource_id`` (default), ``state``, ``rows``, ``bytes``, ``generated_at``, ``pending_since`` or
        ``pending_changes``, and ``asc`` or ``desc`` after it
    :type sort: string
    :param limit: how many at the most (optional, default: 25, upper limit: 1000)
    :type limit: int
    :param offset: how many to leave out first (optional)
    :type offset: int

    **Results:**

    :rtype: A dictionary with the following keys
    :param count: how many resources there are that were asked for
    :type count: int
    :param results: one dictionary for each: ``resource_id``, ``resource_name``, ``package_id``, ``package_title`` (None
        where CKAN has no such resource), ``state``, ``formats``, ``failed_formats``, ``rows``, ``bytes`` of all files
        together, ``generated_at``, ``pending_since``, ``pending_changes``, ``requested_at``, ``exporting_since``,
        ``exported_rows``, ``expected_rows``, ``attempts``, ``retry_at``, ``last_error``, ``choice`` and ``choice_detail`` as
        in ``datastore_dump_status``, ``asked_at`` (when somebody last asked for a file that is kept on demand, to the hour)
    :type results: list of dictionaries
    :param totals: over all resources: ``resources``, how many of them are ``ready``, ``waiting``, ``exporting``,
        ``failing`` and ``unkept``, ``files`` and ``bytes``
    :type totals: dictionary
    :param daemons: how many daemons are connected to the DataStore database now
    :type daemons: int
    """
    tk.check_access("datastore_dump_list", context, data_dict)
    data = _validated(data_dict, schema.dump_list_schema, context)
    sort = schema.sort_of(data["sort"])
    assert sort is not None, "validated"
    # What no text in Postgres has, none of its driver's parameters may have.
    search = data["q"].replace("\0", "").encode("utf-8", "ignore").decode("utf-8").strip()
    with _told("the list"):
        entries, totals = overview.resource_list(
            search=search or None,
            also_ids=catalogue.resources_called(search) if search else [],
            state=data.get("state"),
            sort=sort[0],
            is_descending=sort[1],
            most=data["limit"],
            skipped=min(data["offset"], _BIGINT_MAX),
        )
        daemons = overview.daemon_count()
    names = catalogue.names_of([entry.resource_id for entry in entries])
    counts = asdict(totals)
    return {
        "count": counts.pop("found"),
        "results": [
            {
                **{key: _utc(value) if isinstance(value, datetime) else value for key, value in asdict(entry).items()},
                **asdict(names.get(entry.resource_id, catalogue.NAMELESS)),
            }
            for entry in entries
        ],
        "totals": counts,
        "daemons": daemons,
    }


def datastore_dump_request(context: dict[str, Any], data_dict: dict[str, Any]) -> dict[str, Any]:
    """Have the dumps of a resource made now, without waiting until it has not been changed for a while.

    Whoever may call ``datastore_upsert`` for the resource may call this. The request is kept until the export has been made.

    :param resource_id: id or alias of the resource's table
    :type resource_id: string
    :param force: also if nothing has changed, and without reusing anything of the files that there are (optional,
        default: false)
    :type force: bool

    **Results:**

    :rtype: A dictionary with the following keys
    :param resource_id: id of the resource
    :type resource_id: string
    :param requested_at: the time of the request (UTC)
    :type requested_at: string
    :param force: as given
    :type force: bool
    """
    data = _validated(data_dict, schema.dump_request_schema, context)
    resource_id = _real_id(data["resource_id"])
    tk.check_access("datastore_dump_request", context, {"resource_id": resource_id})
    with _told(resource_id):
        chosen = overview.choice(resource_id)
        never = chosen is not None and chosen.choice == "excluded"
        requested_at = None if never else overview.request_export(resource_id, is_full=data["force"])
    if requested_at is None:
        raise tk.ValidationError({"resource_id": [tk._("This table gets no ready-made dumps")]})
    return {"resource_id": resource_id, "requested_at": _utc(requested_at), "force": data["force"]}


def _validated(data_dict: dict[str, Any], of: Callable[[], dict[str, Any]], context: dict[str, Any]) -> dict[str, Any]:
    data, errors = tk.navl_validate(data_dict, of(), context)
    if errors:
        raise tk.ValidationError(errors)
    return dict(data)


def _real_id(name: str) -> str:
    """The table's own name. Raises `ObjectNotFound` as CKAN's actions on tables do."""
    exists, real_id = DatastoreBackend.get_active_backend().resource_id_from_alias(name)
    if not exists:
        raise tk.ObjectNotFound(tk._('Resource "{0}" was not found.').format(name))
    return str(real_id or name)


def _portal() -> Portal:
    portal: Portal = p.get_plugin("datastore_dumper").portal
    return portal


def _may(action: str, context: dict[str, Any], resource_id: str) -> bool:
    try:
        tk.check_access(action, context, {"resource_id": resource_id})
    except tk.NotAuthorized:
        return False
    return True


@contextmanager
def _told(about: str) -> Iterator[None]:
    """Trouble of ours is logged; whoever asked is told no more than that, for anybody may ask."""
    try:
        yield
    except DumperError as error:
        log.warning("%r: %s", about, _portal().explain(error))
        raise tk.ValidationError(
            {"datastore_dumper": [tk._("The DataStore database cannot tell now; the log says why")]}
        ) from error


def _format(resource_id: str, file: overview.FileStatus, ready: bool) -> dict[str, Any]:
    offer = Offer.of(file.format)
    described = {
        "format": offer.format,
        "bom": offer.bom,
        "url": tk.h.url_for("datastore_dumper.dump", resource_id=resource_id, qualified=True, **offer.arguments),
        "ready": ready,
        "fresh": file.fresh,
    }
    if file.error is not None:
        return {**described, "error": file.error}
    return {**described, "bytes": file.bytes, "rows": file.rows, "generated_at": _utc(file.generated_at)}


def _utc(time: datetime | None) -> str | None:
    """As CKAN writes times: in UTC, without saying so."""
    return time.astimezone(timezone.utc).replace(tzinfo=None).isoformat() if time is not None else None
