"""What a storage must be told, and `open_storage`, which makes one of it. The daemon fills these from its config file,
the plugin from CKAN's; messages name the settings `storage.disk.*` and `storage.s3.*`.

Stdlib and the S3 SDK only, here and in what this imports: a CKAN virtualenv has no more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from datastore_dumper.storage.base import Storage

MIB = 1 << 20


@dataclass(frozen=True)
class DiskSettings:
    """Objects are files below `directory`."""

    directory: Path
    """Must exist: a file system that is not mounted must not be mistaken for an empty storage."""


@dataclass(frozen=True)
class S3Settings:
    """Objects are in one bucket of an S3 service. Without keys, the SDK's chain is asked: the environment
    (`AWS_ACCESS_KEY_ID`..., `MINIO_ACCESS_KEY`...), the AWS credentials file, the IAM role of the machine or pod."""

    endpoint: str
    """`host` or `host:port`, as the daemon and CKAN reach it."""
    bucket: str
    secure: bool = True
    """https or http."""
    prefix: str = ""
    region: str = ""
    """Empty: the one in an AWS endpoint's name, else us-east-1, which most other services ignore."""
    access_key: str = ""
    secret_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    role: str = ""
    """ARN of a role that is assumed with those credentials (STS AssumeRole). Links die with its session, after an hour."""
    public_endpoint: str = ""
    """As browsers reach it; empty: `endpoint`. The host is part of a link's signature."""
    public_secure: bool | None = None
    """None: as `secure`."""
    addressing_style: Literal["auto", "path", "virtual"] = "auto"
    """auto: `bucket.host/key` on AWS, `host/bucket/key` elsewhere."""
    ca_file: Path | None = None
    """PEM; None: `SSL_CERT_FILE`, else the SDK's list."""
    connect_timeout_seconds: float = 5
    read_timeout_seconds: float = 60
    retries: int = 3
    """How often a request that failed is made again."""
    part_bytes: int = 8 * MIB
    """Size of an uploaded part; grows where 10,000 of them would not do."""
    parallel_parts: int = 3
    """Parts on their way at once. Memory: about (parallel_parts + 3) * part_bytes."""


def open_storage(settings: DiskSettings | S3Settings) -> Storage:
    """The storage the settings describe. Touches neither disk nor network: `Storage.check` does.

    Open it in the process that uses it, after any fork. Raises `ConfigError` for a setting that cannot be right.
    """
    if isinstance(settings, DiskSettings):
        from datastore_dumper.storage.disk import DiskStorage

        return DiskStorage(settings)
    from datastore_dumper.storage.s3 import S3Storage

    return S3Storage(settings)
