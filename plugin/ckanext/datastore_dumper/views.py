"""`/datastore/dump/<resource id or alias>`: the ready file, or CKAN's own dump for whatever no file can answer.

The order is: what is asked, whom CKAN lets have it, which file is published, deliver. Nothing is remembered of the
second: CKAN is asked on every request. Where anything fails on our side, CKAN's own dump is the answer; to a request for a
format that CKAN does not know, a sentence (`unanswered`).
"""

from __future__ import annotations

import logging
from typing import Any

import ckan.plugins as p
import ckan.plugins.toolkit as tk
import ckanext.datastore.blueprint as core
from ckan import model
from ckanext.datastore.backend import DatastoreBackend
from flask import Blueprint

from ckanext.datastore_dumper.admin import admin_blueprint
from ckanext.datastore_dumper.compat import objection
from ckanext.datastore_dumper.delivery import Handout, deliver
from ckanext.datastore_dumper.filename import readable_filename
from ckanext.datastore_dumper.lookup import PublishedFile, failure, published_file
from ckanext.datastore_dumper.overview import NO_FILES, choice
from ckanext.datastore_dumper.portal import Portal
from ckanext.datastore_dumper.request import DumpRequest, NotAnswerable, parse
from ckanext.datastore_dumper.signals import announce
from ckanext.datastore_dumper.staleness import allowed_staleness
from ckanext.datastore_dumper.unanswered import (
    LeftToCkanError,
    NeverReadyError,
    NotOfferedError,
    NotReadyError,
    RefusedError,
    UnheededError,
    without_file,
)
from datastore_dumper.errors import DumperError
from datastore_dumper.storage.base import ObjectHeaders

__all__ = ["admin_blueprint", "blueprint"]

log = logging.getLogger(__name__)

blueprint = Blueprint("datastore_dumper", __name__)


def dump(resource_id: str) -> Any:
    """The view. `resource_id` is a table's name or an alias."""
    portal: Portal = p.get_plugin("datastore_dumper").portal
    request = parse(resource_id, tk.request.args.items(multi=True), portal.extra_formats)
    instead = f"is not to be had as {request.format}" if request.extra else "goes to CKAN's own dump"
    try:
        return _ready_file(resource_id, request, portal)
    except LeftToCkanError as error:
        reason: Exception = error
        log.debug("%r %s: %s", resource_id, instead, error)
    except DumperError as error:
        reason = error
        log.warning("%r %s: %s", resource_id, instead, portal.explain(error))
    except Exception as error:
        reason = error
        # A query of CKAN's may have failed on the session that its own dump is about to use.
        model.Session.rollback()
        log.exception("%r %s", resource_id, instead)
    if request.extra and not isinstance(reason, NotOfferedError):
        return without_file(reason, request.format, portal)
    return core.dump(resource_id)


def _ready_file(name: str, request: DumpRequest | NotAnswerable, portal: Portal) -> Any:
    if isinstance(request, NotAnswerable) and not request.extra:
        raise UnheededError(request.arguments)
    _require_offered(name, portal)
    found, trouble = _file_of_table(name, request)
    resource_id = name if found is not None else _table_of(name)
    _require_allowed(resource_id if portal.names_file_by_real_id else name)
    if isinstance(request, NotAnswerable):
        raise UnheededError(request.arguments)
    if trouble is not None:
        raise trouble
    if tk.request.method == "GET":  # whoever only looks whether a link works asks for nothing
        portal.demand.note(resource_id, portal.explain)
    file = _equal_file(found or published_file(resource_id, request.format), resource_id, request, portal)
    behind = None if file.fresh else _seconds_behind(file, resource_id, portal)
    headers = ObjectHeaders(file.content_type, _filename(name, resource_id, file, portal))
    # What nobody in particular may have, everybody may.
    for_everybody = portal.settings.public_cache_seconds > 0 and not tk.g.user
    response = deliver(Handout(file, headers, for_everybody, behind), portal)
    return announce(resource_id, request.format, file, response, portal)


def _require_offered(name: str, portal: Portal) -> None:
    """Raises `NotOfferedError` where files are no answer to anybody."""
    if name in portal.public_tables:
        raise NotOfferedError("a public table")
    if (reason := portal.not_offered) is not None:
        portal.warn_once("not offered", "no ready-made dumps are handed out: %s", reason)
        raise NotOfferedError(reason)


def _file_of_table(name: str, request: DumpRequest | NotAnswerable) -> tuple[PublishedFile | None, DumperError | None]:
    """The file of a table of this very name: then it is no alias, and CKAN's view of them need not be searched, which takes
    Postgres nearly as long as finding the file. Without it, the name may be an alias, or there is no file, or there was
    trouble: that is for those whom CKAN allows the table."""
    if isinstance(request, NotAnswerable):
        return None, None
    try:
        return published_file(name, request.format), None
    except DumperError as error:
        return None, error


def _table_of(name: str) -> str:
    """The name of the table that a name or an alias stands for."""
    exists, real_id = DatastoreBackend.get_active_backend().resource_id_from_alias(name)
    if not exists:
        raise RefusedError("no such table or alias")
    table: str = real_id or name
    return table


def _require_allowed(asked_for: str) -> None:
    """Raises `RefusedError` unless this user may dump the table: asked of CKAN the way its own dump asks.

    The action and not the bare authorization function, so that whatever plugins put around the action has its say. Until 2.11
    CKAN's dump searches by the name that was typed, so that is what those plugins have their say about.
    """
    try:
        tk.get_action("datastore_search")({}, {"resource_id": asked_for, "limit": 0, "include_total": False})
    except (tk.NotAuthorized, tk.ObjectNotFound, tk.ValidationError) as refusal:
        raise RefusedError("CKAN refuses") from refusal


def _equal_file(file: PublishedFile | None, resource_id: str, request: DumpRequest, portal: Portal) -> PublishedFile:
    """The published file, if it is made as CKAN's own dump would be, or in the way that the site wants it."""
    if file is None:
        if request.extra and (error := failure(resource_id, request.format)):
            raise NeverReadyError(error)
        if request.extra:
            raise _why_not_ready(resource_id, request.format)
        raise NotReadyError("no file is published")
    objected = objection(file.compat, portal.compat, portal.settings.alterations)
    if objected:
        portal.warn_once(file.compat, "ready-made dumps are not handed out: %s", objected)
        raise NotReadyError("the file is not as this site sends it")
    return file


def _why_not_ready(resource_id: str, format: str) -> LeftToCkanError:
    """Why there is no file in a format that CKAN cannot make itself."""
    decided = choice(resource_id)
    if decided is not None and decided.choice not in (None, "not_asked"):
        if decided.choice in NO_FILES:
            return NeverReadyError("this site makes no files of it")  # why is not for visitors
        if format not in decided.formats:
            return NeverReadyError("this site makes no such files of it")
    return NotReadyError("no file is published")


def _seconds_behind(file: PublishedFile, resource_id: str, portal: Portal) -> float:
    """How far behind its table a file is that may be so. Raises `NotReadyError` for one that may not."""
    behind = file.seconds_behind
    if behind is None or behind > allowed_staleness(resource_id, portal):
        raise NotReadyError("the table has changed since")
    return behind


def _filename(name: str, resource_id: str, file: PublishedFile, portal: Portal) -> str:
    # The id before it has no dot (storage/keys.py, escape).
    extension = file.storage_key.rpartition("/")[2].partition(".")[2]
    if portal.settings.readable_filenames:
        try:
            resource = tk.get_action("resource_show")({}, {"id": resource_id})
        except (tk.NotAuthorized, tk.ObjectNotFound) as refusal:
            log.debug("%r is named by its id: %s", resource_id, refusal)
        else:
            readable = readable_filename(resource.get("name"), resource.get("format"), file.generated_at, extension)
            if readable:
                return readable
    return f"{resource_id if portal.names_file_by_real_id else name}.{extension}"


blueprint.add_url_rule("/datastore/dump/<resource_id>", view_func=dump)
