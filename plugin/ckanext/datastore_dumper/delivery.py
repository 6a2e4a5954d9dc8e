"""Builds the responses that hand out a published file: a redirect to the bucket, or the file itself from disk.

Whether the user may have it, and whether it is the right one, is settled before. Headers: RFC 9110, CKAN's dump.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, BinaryIO

import ckan.plugins.toolkit as tk
from flask import Response, redirect
from werkzeug.wsgi import wrap_file

from ckanext.datastore_dumper.conditional import Verdict, judge
from ckanext.datastore_dumper.lookup import PublishedFile
from ckanext.datastore_dumper.portal import Portal
from datastore_dumper.errors import ObjectChangedError, StorageError
from datastore_dumper.storage.base import ObjectHeaders
from datastore_dumper.storage.disk import DiskStorage
from datastore_dumper.storage.disposition import content_disposition

READ_BYTES = 256 * 1024


def deliver(file: PublishedFile, headers: ObjectHeaders, portal: Portal) -> Any:
    """The answer to the current GET or HEAD request. Raises `StorageError` if the storage does not have the file.

    For a bucket nothing is sent over the network: links are signed here, and HEAD, which a link signed for GET would
    refuse, is answered from what was published.
    """
    storage = portal.storage
    verdict = judge(
        tk.request.method, tk.request.headers, etag=file.etag, modified=file.generated_at, length=file.bytes
    )
    if isinstance(storage, DiskStorage):
        response = _from_disk(storage, file, verdict)
    elif verdict.status in (304, 412) or tk.request.method == "HEAD":
        response = Response(status=verdict.status)
    else:
        return _redirect(file, headers, portal)
    _describe(response, file, headers, verdict)
    # A browser may keep it, but must ask each time whether it still may have it.
    return for_this_user_only(response, portal, "private, no-cache")


def _redirect(file: PublishedFile, headers: ObjectHeaders, portal: Portal) -> Any:
    link = portal.storage.link(file.storage_key, headers, portal.settings.link_expiry_seconds)
    if link is None:
        raise StorageError("the storage makes no links")
    # Whoever has the link has the file, so nobody may keep it. Range and the like go with the client to the bucket.
    return for_this_user_only(redirect(link, code=302), portal, "private, no-store")


def _from_disk(storage: DiskStorage, file: PublishedFile, verdict: Verdict) -> Any:
    """Opened before anything is said of it, so what is promised is there, even if it is deleted meanwhile."""
    try:
        body = storage.path_of(file.storage_key).open("rb")
    except OSError as error:
        raise StorageError(f"{file.storage_key} cannot be opened: {error.strerror}") from error
    length = os.fstat(body.fileno()).st_size
    if length != file.bytes:
        body.close()
        raise ObjectChangedError(f"{file.storage_key} has {length} bytes in the storage directory, not {file.bytes}")
    if verdict.status not in (200, 206) or tk.request.method == "HEAD":
        body.close()
        return Response(status=verdict.status)
    if verdict.status == 206:
        response = Response(_bytes_of(body, verdict), status=206)
        response.call_on_close(body.close)
        return response
    # The server may pass it to sendfile(), and closes it.
    return Response(wrap_file(tk.request.environ, body, READ_BYTES), direct_passthrough=True)


def _bytes_of(body: BinaryIO, verdict: Verdict) -> Iterator[bytes]:
    body.seek(verdict.start)
    left = verdict.stop - verdict.start
    while left > 0 and (chunk := body.read(min(READ_BYTES, left))):
        left -= len(chunk)
        yield chunk


def _describe(response: Any, file: PublishedFile, headers: ObjectHeaders, verdict: Verdict) -> None:
    response.set_etag(file.etag)
    response.last_modified = file.generated_at
    response.headers["Accept-Ranges"] = "bytes"
    if verdict.status == 416:
        response.headers["Content-Range"] = f"bytes */{file.bytes}"
    if verdict.status == 206:
        response.headers["Content-Range"] = f"bytes {verdict.start}-{verdict.stop - 1}/{file.bytes}"
    if verdict.status in (200, 206):
        response.headers["Content-Type"] = headers.content_type
        response.headers["Content-Disposition"] = content_disposition(headers.filename)
        response.content_length = verdict.stop - verdict.start


def for_this_user_only(response: Any, portal: Portal, cache_control: str) -> Any:
    """CKAN would mark the response `public` (set_cache_control_headers_for_response), even for private data."""
    tk.request.environ["__no_cache__"] = True
    response.headers["Cache-Control"] = cache_control
    response.vary.update(portal.identity_headers)
    return response
