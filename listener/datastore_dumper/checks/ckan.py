"""Checks of the CKAN whose dumps the files stand in for: its release and its plugins, as it says itself."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator

import certifi
from urllib3 import PoolManager, Retry, Timeout
from urllib3.exceptions import HTTPError

from datastore_dumper.checks.results import Result, Subject, failed, ok, warning
from datastore_dumper.errors import EXIT_CONFIG

_TIMEOUT = Timeout(connect=5, read=15)
_MOST_BYTES = 1 << 20
# Of every CKAN, without an API token (CKAN: ckan/logic/action/get.py, status_show).
_STATUS = "/api/3/action/status_show"
_PLUGIN = "datastore_dumper"


def release(subject: Subject) -> Iterator[Result]:
    """Files of another release are not handed out, so a wrong ckan.compat makes them all useless without any error."""
    url = subject.config.ckan.url
    if url is None:
        mend = "Set it, so that a wrong ckan.compat is noticed: the plugin hands no file out then."
        yield warning("ckan.release", "ckan.url is not set, so CKAN cannot be asked for its release", mend)
        return
    status = _status(url)
    if isinstance(status, str):
        yield warning("ckan.release", f"CKAN at {url} cannot be asked: {status}", "Check ckan.url.")
        return
    compat = subject.config.ckan.compat
    version = status.get("ckan_version")
    found = re.match(r"\d+\.\d+", version) if isinstance(version, str) else None
    if found is None:
        mend = f"Make sure that it is {compat} (ckan.compat). It is hidden by ckan.hide_version."
        yield warning("ckan.release", "CKAN does not tell its release", mend)
    elif found[0] != compat:
        mend = f'Set ckan.compat to "{found[0]}": the plugin hands no file of another release out.'
        yield failed("ckan.release", f"CKAN is {version}, ckan.compat is {compat}", mend, EXIT_CONFIG)
    else:
        yield ok("ckan.release", f"CKAN {version}, as ckan.compat says")
    plugins = status.get("extensions")
    if isinstance(plugins, list) and _PLUGIN not in plugins:
        mend = f"Add {_PLUGIN} to ckan.plugins, before datastore, and restart CKAN."
        yield warning("ckan.plugin", f"CKAN does not have the plugin {_PLUGIN}, so nobody is handed a file", mend)
    else:
        yield ok("ckan.plugin", f"CKAN has the plugin {_PLUGIN}")


def _status(url: str) -> dict[str, object] | str:
    """What CKAN says of itself, or why it does not."""
    pool = PoolManager(
        timeout=_TIMEOUT,
        retries=Retry(2, redirect=3, raise_on_status=False),
        cert_reqs="CERT_REQUIRED",
        ca_certs=os.environ.get("SSL_CERT_FILE") or certifi.where(),
    )
    with pool:
        try:
            answer = pool.request("GET", url.rstrip("/") + _STATUS, preload_content=False)
            body = answer.read(_MOST_BYTES)
            answer.release_conn()
        except HTTPError as error:
            reason = getattr(error, "reason", None) or error
            return " ".join(str(reason).split())
    if answer.status != 200:
        return f"it answered {answer.status}"
    try:
        result = json.loads(body)["result"]
    except (ValueError, KeyError, TypeError):
        result = None
    return result if isinstance(result, dict) else "the answer is not CKAN's"
