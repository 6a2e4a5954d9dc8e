"""Connections to an S3 service and to what belongs to it: whom they trust, and how long they wait."""

from __future__ import annotations

import os

import certifi
from urllib3 import PoolManager, Retry, Timeout

from datastore_dumper.errors import ConfigError
from datastore_dumper.storage.settings import S3Settings

# What may pass: too many requests, and faults of the service or of a proxy before it (RFC 6585; RFC 9110 section 15.6).
RETRIED_STATUSES = (429, 500, 502, 503, 504)


def connections(settings: S3Settings, retries: Retry, *, read_seconds: float, maxsize: int = 1) -> PoolManager:
    """A pool with deadlines. Certificates must be signed by an authority of `ca_file`, else of `SSL_CERT_FILE`, else of
    certifi's list. `maxsize`: connections to one host that are kept.

    Raises `ConfigError` if `ca_file` is no file.
    """
    if settings.ca_file is not None and not settings.ca_file.is_file():
        raise ConfigError(f"storage.s3.ca_file {settings.ca_file} is not a file")
    return PoolManager(
        timeout=Timeout(connect=settings.connect_timeout_seconds, read=read_seconds),
        maxsize=maxsize,
        retries=retries,
        cert_reqs="CERT_REQUIRED",
        ca_certs=str(settings.ca_file or os.environ.get("SSL_CERT_FILE") or certifi.where()),
    )
