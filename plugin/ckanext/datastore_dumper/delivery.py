"""Builds the responses that hand out a published file: a link to the bucket, the file itself, or a word to nginx.

Whether the user may have it, and whether it is the right one, is settled before. Headers: RFC 9110, CKAN's dump.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import ckan.plugins.toolkit as tk
from flask import Response
from werkzeug.utils import redirect
from werkzeug.wsgi import wrap_file

from ckanext.datastore_dumper.caching import ACCEL_CACHE_HEADER, ForEverybody, for_this_user_only
from ckanext.datastore_dumper.conditional import Verdict, judge
from ckanext.datastore_dumper.lookup import PublishedFile
from ckanext.datastore_dumper.portal import Portal
from ckanext.datastore_dumper.settings import Delivery
from datastore_dumper.errors import ObjectChangedError, ObjectMissingError, StorageError
from datastore_dumper.storage.base import ObjectHeaders
from datastore_dumper.storage.disk import DiskStorage
from datastore_dumper.storage.disposition import content_disposition

READ_BYTES = 256 * 1024
ACCEL_RANGE_HEADER = "Datastore-Dump-Range"
"""What nginx is to ask the bucket for; not there: all of it."""
BEHIND_HEADER = "Datastore-Dump-Behind-Seconds"
"""How long the table has been different from the file, at most. Only where that is allowed, and so."""


@dataclass(frozen=True)
class Handout:
    """A file for the one who asks, as it was found."""

    file: PublishedFile
    headers: ObjectHeaders
    for_everybody: bool
    """Whether a shared cache may give it to others."""
    seconds_behind: float | None = None
    """None: not at all."""


def deliver(handout: Handout, portal: Portal) -> Any:
    """The answer to the current GET or HEAD request. Raises `StorageError` if the storage does not have the file.

    Of a bucket, HEAD is answered from what was published: a link that is signed for GET refuses it.
    """
    file, storage = handout.file, portal.storage
    way = _way(portal)
    verdict = judge(
        tk.request.method, tk.request.headers, etag=file.etag, modified=file.generated_at, length=file.bytes
    )
    if verdict.status in (412, 416):
        # A refusal answers this request's headers: a cache that kept it would give it to all who ask without them.
        handout = replace(handout, for_everybody=False)
    if isinstance(storage, DiskStorage):
        if way == "accel":
            _stat(storage, file)
            return _by_nginx(file.storage_key, handout, portal)
        response = _from_disk(storage, handout, verdict)
    else:
        portal.watch.expect(file.storage_key, file.bytes)
        if verdict.status in (304, 412) or tk.request.method == "HEAD":
            response = _empty(verdict, handout)
        elif way == "proxy" or verdict.status == 416:
            response = _through_here(handout, verdict, portal)
        elif way == "accel":
            link = urlsplit(_link(handout, portal))
            return _by_nginx(f"{link.path.lstrip('/')}?{link.query}", handout, portal, verdict)
        else:
            response = redirect(_public(_link(handout, portal), portal), code=302, Response=_kind(handout))
            # Whoever has the link has the file, so nobody may keep it. Range and the like go with the client.
            return _for_whom(response, handout, portal, "private, no-store")
    _describe(response, handout, verdict)
    # A browser may keep it, but must ask each time whether it still may have it.
    return _for_whom(response, handout, portal, "private, no-cache")


def _way(portal: Portal) -> Delivery:
    way = portal.settings.delivery
    # Many clients send the header on to where they are redirected, and S3 refuses two kinds of credentials.
    if way == "redirect" and portal.settings.proxy_with_authorization and "Authorization" in tk.request.headers:
        return "proxy"
    return way


def _kind(handout: Handout) -> type[Any]:
    return ForEverybody if handout.for_everybody else Response


def _link(handout: Handout, portal: Portal) -> str:
    with portal.watch.asking():  # temporary credentials may have to be renewed
        link = portal.storage.link(handout.file.storage_key, handout.headers, portal.settings.link_expiry_seconds)
    if link is None:
        raise StorageError("the storage makes no links")
    return link


def _public(link: str, portal: Portal) -> str:
    """The link by way of the proxy that is in front of the bucket for users, if there is one."""
    if not portal.settings.link_base:
        return link
    signed = urlsplit(link)
    return f"{portal.settings.link_base}{signed.path}?{signed.query}"


def _by_nginx(path: str, handout: Handout, portal: Portal, verdict: Verdict | None = None) -> Any:
    """A word to nginx. For a file it answers conditions, ranges and HEAD by itself, with an etag of its own; what it
    fetches is judged here, for not every S3 service knows If-Range.

    Keys are of characters that need no quoting in a URL (storage/keys.py).
    """
    response = _kind(handout)(status=200)
    if verdict is not None and verdict.status == 206:
        response.headers[ACCEL_RANGE_HEADER] = f"bytes={verdict.start}-{verdict.stop - 1}"
    response.headers["X-Accel-Redirect"] = portal.settings.accel_location + path
    response.headers["Content-Type"] = handout.headers.content_type
    response.headers["Content-Disposition"] = content_disposition(handout.headers.filename)
    return _for_whom(response, handout, portal, "private, no-cache", by_nginx=True)


def _from_disk(storage: DiskStorage, handout: Handout, verdict: Verdict) -> Any:
    """Opened before anything is said of it, so what is promised is there, even if it is deleted meanwhile."""
    file = handout.file
    try:
        body = storage.path_of(file.storage_key).open("rb")
    except OSError as error:
        raise StorageError(f"{file.storage_key} cannot be opened: {error.strerror}") from error
    length = os.fstat(body.fileno()).st_size
    if length != file.bytes:
        body.close()
        raise _changed(file, length)
    if verdict.status not in (200, 206) or tk.request.method == "HEAD":
        body.close()
        return _empty(verdict, handout)
    if verdict.status == 206:
        body.seek(verdict.start)
        return _streamed(body, handout, verdict)
    # The server may pass it to sendfile(), and closes it.
    return _kind(handout)(wrap_file(tk.request.environ, body, READ_BYTES), direct_passthrough=True)


def _through_here(handout: Handout, verdict: Verdict, portal: Portal) -> Any:
    """From the bucket through this process. The connection is open before anything is said."""
    if verdict.status not in (200, 206):
        return _empty(verdict, handout)
    length = verdict.stop - verdict.start
    with portal.watch.asking():
        body = portal.storage.open(handout.file.storage_key, offset=verdict.start, length=length)
    return _streamed(body, handout, verdict)


def _streamed(body: BinaryIO, handout: Handout, verdict: Verdict) -> Any:
    response = _kind(handout)(_bytes_of(body, verdict), status=verdict.status)
    response.call_on_close(body.close)
    return response


def _bytes_of(body: BinaryIO, verdict: Verdict) -> Iterator[bytes]:
    left = verdict.stop - verdict.start
    while left > 0 and (chunk := body.read(min(READ_BYTES, left))):
        left -= len(chunk)
        yield chunk


def _empty(verdict: Verdict, handout: Handout) -> Any:
    return _kind(handout)(status=verdict.status)


def _stat(storage: DiskStorage, file: PublishedFile) -> None:
    try:
        length = storage.path_of(file.storage_key).stat().st_size
    except OSError as error:
        raise ObjectMissingError(f"{file.storage_key} cannot be had: {error.strerror}") from error
    if length != file.bytes:
        raise _changed(file, length)


def _changed(file: PublishedFile, length: int) -> ObjectChangedError:
    return ObjectChangedError(f"{file.storage_key} has {length} bytes in the storage, not {file.bytes}")


def _describe(response: Any, handout: Handout, verdict: Verdict) -> None:
    file = handout.file
    response.set_etag(file.etag)
    response.last_modified = file.generated_at
    response.headers["Accept-Ranges"] = "bytes"
    if verdict.status == 416:
        response.headers["Content-Range"] = f"bytes */{file.bytes}"
    if verdict.status == 206:
        response.headers["Content-Range"] = f"bytes {verdict.start}-{verdict.stop - 1}/{file.bytes}"
    if verdict.status in (200, 206):
        response.headers["Content-Type"] = handout.headers.content_type
        response.headers["Content-Disposition"] = content_disposition(handout.headers.filename)
        response.content_length = verdict.stop - verdict.start


def _for_whom(response: Any, handout: Handout, portal: Portal, private: str, *, by_nginx: bool = False) -> Any:
    """Say how far behind the file is, and who may keep it: the one who asked, as `private` says, or everybody."""
    if handout.seconds_behind is not None:
        response.headers[BEHIND_HEADER] = str(int(handout.seconds_behind) + 1)
    if not handout.for_everybody:
        return for_this_user_only(response, portal.identity_headers, private)
    public = f"public, max-age={portal.settings.public_cache_seconds}"
    if by_nginx:
        response.headers[ACCEL_CACHE_HEADER] = public
    else:
        response.public_cache_control = public
    return response
