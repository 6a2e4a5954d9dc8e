"""Where the S3 keys come from: the settings, or the sources that AWS's own tools ask."""

from __future__ import annotations

from minio.credentials.credentials import Credentials
from minio.credentials.providers import (
    AWSConfigProvider,
    ChainedProvider,
    EnvAWSProvider,
    EnvMinioProvider,
    IamAwsProvider,
    Provider,
    StaticProvider,
)
from urllib3 import PoolManager, Retry, Timeout
from urllib3.exceptions import HTTPError

from datastore_dumper.errors import ConfigError
from datastore_dumper.storage.settings import S3Settings


def credentials_of(settings: S3Settings) -> Provider:
    """Raises `ConfigError` for one key without the other. Asks nobody yet."""
    if not settings.access_key and not settings.secret_key:
        return _Chain()
    for name in ("access_key", "secret_key"):
        if not getattr(settings, name):
            raise ConfigError(
                f"storage.s3.{name} is missing", hint="Set both keys, or neither to use those of the environment."
            )
    return StaticProvider(settings.access_key, settings.secret_key, settings.session_token or None)


class _Chain(Provider):
    """The SDK's sources in turn, with deadlines and one clear error."""

    def __init__(self) -> None:
        # On a machine that is in no cloud, nobody answers at 169.254.169.254.
        pool = PoolManager(timeout=Timeout(connect=1, read=5), retries=Retry(total=1))
        self._chain = ChainedProvider(
            [EnvAWSProvider(), EnvMinioProvider(), AWSConfigProvider(), IamAwsProvider(http_client=pool)]
        )

    def retrieve(self) -> Credentials:
        try:
            return self._chain.retrieve()
        except (ValueError, KeyError, OSError, HTTPError):
            # The cause is left out: the URL of a token service has the token in it.
            raise ConfigError(
                "no credentials for S3 found",
                hint="Set storage.s3.access_key and storage.s3.secret_key, or give the process AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, an AWS credentials file, or an IAM role.",
            ) from None
