"""Turns the storage section into what `datastore_dumper.storage` wants. CKAN's plugin does so from CKAN's settings."""

from __future__ import annotations

from datastore_dumper.config.model import Config
from datastore_dumper.storage.settings import DiskSettings, S3Settings


def storage_settings(config: Config) -> DiskSettings | S3Settings:
    """The settings of the storage that `storage.type` names, secrets in the clear: for `open_storage`, not for show."""
    disk, s3 = config.storage.disk, config.storage.s3
    if config.storage.type == "disk" and disk is not None:
        return DiskSettings(directory=disk.directory)
    assert s3 is not None, "the model refuses a type without its section"
    return S3Settings(
        endpoint=s3.endpoint,
        secure=s3.secure,
        public_endpoint=s3.public_endpoint or "",
        public_secure=s3.public_secure,
        bucket=s3.bucket,
        prefix=s3.prefix,
        region=s3.region or "",
        access_key=s3.access_key or "",
        secret_key=s3.secret_key.get_secret_value() if s3.secret_key else "",
        session_token=s3.session_token.get_secret_value() if s3.session_token else "",
        role=s3.role or "",
        ca_file=s3.ca_file,
        addressing_style=s3.addressing_style,
        read_timeout_seconds=s3.read_timeout_seconds,
    )
