"""Signals that other plugins can listen to."""

from __future__ import annotations

import logging
from typing import Any

import ckan.plugins.toolkit as tk

from ckanext.datastore_dumper.lookup import PublishedFile
from ckanext.datastore_dumper.portal import Portal
from datastore_dumper.storage.disk import DiskStorage

log = logging.getLogger(__name__)

_WHOLE = "bytes=0-"

download_answered = tk.signals.ckanext.signal("datastore_dumper:download_answered")
"""A download was answered with a ready file, or with the way to it. The sender is the resource id; `format` is the daemon's
name (`csv-bom` has a byte order mark), `bytes` the length of the whole file, `delivery` one of `redirect`, `file`, `accel` and
`proxy`. Not sent for HEAD, for what the client has already, and for a range that does not begin at the first byte."""


def announce(resource_id: str, format: str, file: PublishedFile, response: Any, portal: Portal) -> Any:
    """Send the signal if `response` is a download, and return it. A receiver that fails is logged and spoils no download."""
    from_the_start = tk.request.headers.get("Range", _WHOLE).replace(" ", "").startswith(_WHOLE)
    if tk.request.method == "GET" and response.status_code in (200, 206, 302) and from_the_start:
        try:
            download_answered.send(resource_id, format=format, bytes=file.bytes, delivery=_delivery(response, portal))
        except Exception:
            log.exception("a receiver of the signal of downloads failed for %s", resource_id)
    return response


def _delivery(response: Any, portal: Portal) -> str:
    if response.status_code == 302:
        return "redirect"
    if "X-Accel-Redirect" in response.headers:
        return "accel"
    return "file" if isinstance(portal.storage, DiskStorage) else "proxy"
