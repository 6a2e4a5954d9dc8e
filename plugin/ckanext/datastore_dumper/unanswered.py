"""Why a request has no ready file, and what to say where CKAN has no dump of its own to send instead: extra formats.

The sentences are for people and programs that download, so plain text; each says what can be done.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ckan.plugins.toolkit as tk
from flask import Response

from ckanext.datastore_dumper.caching import for_this_user_only
from ckanext.datastore_dumper.portal import Portal

# The daemon's default quiet time, and as long again to make the file.
RETRY_AFTER_SECONDS = 60


class LeftToCkanError(Exception):
    """CKAN's own dump is the right answer to this request; the message says why."""


class NotOfferedError(LeftToCkanError):
    """No ready file is ever handed out for this table, or on this site: CKAN answers as it would without us."""


class RefusedError(LeftToCkanError):
    """CKAN does not let this user have the table, or there is none."""


class NotReadyError(LeftToCkanError):
    """There is no file that shows the table as it is now."""


class NeverReadyError(LeftToCkanError):
    """The table as it is now cannot be had in this format; the message is the daemon's."""


class UnheededError(LeftToCkanError):
    """No file can heed these arguments."""

    def __init__(self, arguments: Sequence[str]) -> None:
        super().__init__(f"no file can heed {', '.join(arguments)}")
        self.arguments = arguments


def without_file(reason: Exception, format: str, portal: Portal) -> Any:
    """The answer where a file in an extra format was asked for and `reason` is why none is handed out.

    Trouble of our own is no different from a file that is not ready: it may be over soon. Raises what `tk.abort` does.
    """
    if isinstance(reason, RefusedError):
        # As CKAN refuses a dump (ckanext/datastore/blueprint.py), in its words and languages.
        tk.abort(404, tk._("DataStore resource not found"))
    if isinstance(reason, UnheededError):
        sentence = tk._("Files in the format {format} are of whole tables: leave out {arguments}.")
        return _said(400, sentence.format(format=format, arguments=", ".join(reason.arguments)), portal)
    if isinstance(reason, NeverReadyError):
        sentence = tk._("This table cannot be had in the format {format}: {reason}.")
        return _said(404, sentence.format(format=format, reason=str(reason).rstrip(".")), portal)
    sentence = tk._("The file in the format {format} is not ready yet: try again in {seconds} seconds.")
    response = _said(503, sentence.format(format=format, seconds=RETRY_AFTER_SECONDS), portal)
    response.retry_after = RETRY_AFTER_SECONDS
    return response


def _said(status: int, sentence: str, portal: Portal) -> Any:
    response = Response(f"{sentence}\n", status, content_type="text/plain; charset=utf-8")
    return for_this_user_only(response, portal.identity_headers, "no-store")
