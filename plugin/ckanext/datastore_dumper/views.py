"""`/datastore/dump/<resource id or alias>`: the ready file, or CKAN's own dump for whatever no file can answer.

The order is: what is asked, whom CKAN lets have it, which file is published, deliver. Nothing is remembered of the
second: CKAN is asked on every request. Where anything fails on our side, CKAN's own dump is the answer.
"""

from __future__ import annotations

import logging
from typing import Any

import ckan.plugins as p
import ckan.plugins.toolkit as tk
import ckanext.datastore.blueprint as core
from ckan import model
from ckanext.datastore.backend import DatastoreBackend
from ckanext.datastore.backend.postgres import DatastorePostgresqlBackend
from flask import Blueprint

from ckanext.datastore_dumper.delivery import deliver
from ckanext.datastore_dumper.lookup import PublishedFile, published_file
from ckanext.datastore_dumper.portal import Portal
from ckanext.datastore_dumper.request import DumpRequest, NotAnswerable, parse
from ckanext.datastore_dumper.settings import PREFIX, one_line
from datastore_dumper.errors import DumperError
from datastore_dumper.storage.base import ObjectHeaders

__all__ = ["blueprint"]

log = logging.getLogger(__name__)

blueprint = Blueprint("datastore_dumper", __name__)


class LeftToCkanError(Exception):
    """CKAN's own dump is the right answer to this request; the message says why."""


def dump(resource_id: str) -> Any:
    """The view. `resource_id` is a table's name or an alias."""
    try:
        return _ready_file(resource_id)
    except LeftToCkanError as reason:
        log.debug("%r goes to CKAN's own dump: %s", resource_id, reason)
    except DumperError as error:
        log.warning("%r goes to CKAN's own dump: %s", resource_id, one_line(error))
    except Exception:
        # A query of CKAN's may have failed on the session that its own dump is about to use.
        model.Session.rollback()
        log.exception("%r goes to CKAN's own dump", resource_id)
    return core.dump(resource_id)


def _ready_file(name: str) -> Any:
    portal: Portal = p.get_plugin("datastore_dumper").portal
    request = parse(name, tk.request.args.items(multi=True))
    if isinstance(request, NotAnswerable):
        raise LeftToCkanError(request.reason)
    resource_id = _authorized_id(name, portal)
    file = _equal_file(resource_id, request, portal)
    stem = resource_id if portal.names_file_by_real_id else name
    return deliver(file, ObjectHeaders(file.content_type, f"{stem}.{request.extension}"), portal)


def _authorized_id(name: str, portal: Portal) -> str:
    """The name of the table, if this user may dump it: asked of CKAN the way its own dump asks.

    The action and not the bare authorization function, so that whatever plugins put around the action has its say.
    """
    if name in portal.public_tables:
        raise LeftToCkanError("a public table")
    if portal.row_filters:
        portal.warn_once(
            "row filters",
            "no ready-made dumps are handed out: these plugins may show users different rows of a table: %s. "
            "If they do not, name them in %s.plugins_without_row_filters",
            ", ".join(portal.row_filters),
            PREFIX,
        )
        raise LeftToCkanError("a plugin may filter rows")
    backend = DatastoreBackend.get_active_backend()
    if not isinstance(backend, DatastorePostgresqlBackend):
        raise LeftToCkanError("the DataStore is not in Postgres")
    exists, real_id = backend.resource_id_from_alias(name)
    if not exists:
        raise LeftToCkanError("no such table or alias")
    resource_id: str = real_id or name
    try:
        tk.get_action("datastore_search")({}, {"resource_id": resource_id, "limit": 0, "include_total": False})
    except (tk.NotAuthorized, tk.ObjectNotFound, tk.ValidationError) as refusal:
        raise LeftToCkanError("CKAN refuses") from refusal
    return resource_id


def _equal_file(resource_id: str, request: DumpRequest, portal: Portal) -> PublishedFile:
    """The published file, if CKAN's own dump would send the same bytes now."""
    file = published_file(resource_id, request.format)
    if file is None:
        raise LeftToCkanError("no file is published")
    if file.compat != portal.compat:
        portal.warn_once(
            "compat",
            "no ready-made dumps are handed out: the files are made for CKAN %s, this is %s. "
            "Set ckan.compat and ckan.ms_in_timestamp in the daemon's configuration to match",
            file.compat,
            portal.compat,
        )
        raise LeftToCkanError("the file is another release's")
    if not file.fresh:
        raise LeftToCkanError("the table has changed since")
    return file


blueprint.add_url_rule("/datastore/dump/<resource_id>", view_func=dump)
