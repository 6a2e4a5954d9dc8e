"""Where the S3 keys come from: the settings, or the sources that AWS's own tools ask."""

from __future__ import annotations

from minio.credentials.credentials import Credentials
from minio.credentials.providers import (
    AssumeRoleProvider,
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
from datastore_dumper.storage.s3_errors import from_transport
from datastore_dumper.storage.s3_pool import RETRIED_STATUSES, connections
from datastore_dumper.storage.settings import S3Settings

_STS_READ_SECONDS = 10  # a few bytes; who waits for them is a download or an export


def credentials_of(settings: S3Settings, region: str) -> Provider:
    """`region` is what requests are signed for. Asks nobody yet. Raises `ConfigError` for one key without the other."""
    if not settings.access_key and not settings.secret_key:
        if settings.role:  # the SDK asks for a role without the token that those of a machine come with
            raise ConfigError("storage.s3.role is set, but storage.s3.access_key is not", hint="Set the keys, too.")
        return _Chain()
    for name in ("access_key", "secret_key"):
        if not getattr(settings, name):
            raise ConfigError(
                f"storage.s3.{name} is missing", hint="Set both keys, or neither to use those of the environment."
            )
    if settings.role:
        return _Role(settings, region)
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


class _Role(Provider):
    """Temporary credentials of a role (AWS STS, AssumeRole), renewed when they expire."""

    def __init__(self, settings: S3Settings, region: str) -> None:
        self._role = settings.role
        self._endpoint = _sts_endpoint(settings, region)
        # Asking twice does no harm, so the POST is repeated, too. If one of these statuses stays, urllib3 raises.
        retries = Retry(
            total=1,
            backoff_factor=0.2,
            allowed_methods=None,
            status_forcelist=RETRIED_STATUSES,
            respect_retry_after_header=False,
        )
        self._sts = AssumeRoleProvider(
            sts_endpoint=self._endpoint,
            access_key=settings.access_key,
            secret_key=settings.secret_key,
            region=region,
            role_arn=settings.role,
            role_session_name="datastore-dumper",
            http_client=connections(settings, retries, read_seconds=_STS_READ_SECONDS),
        )

    def retrieve(self) -> Credentials:
        """Raises `StorageUnavailableError` if the service cannot be reached or cannot answer now, `ConfigError` if it
        refuses."""
        try:
            return self._sts.retrieve()
        except (HTTPError, OSError) as error:
            doing = f"assuming the role {self._role} of storage.s3.role"
            raise from_transport(self._endpoint, doing, error) from error
        except (ValueError, KeyError):
            # The cause is left out: an answer of the service may have credentials in it.
            raise ConfigError(
                f"the role {self._role} of storage.s3.role cannot be assumed",
                hint="Its trust policy must name whom the access key belongs to, with the action sts:AssumeRole.",
            ) from None


def _sts_endpoint(settings: S3Settings, region: str) -> str:
    """AWS has a host of its own for it; other services answer where they are."""
    if not settings.endpoint.endswith(("amazonaws.com", "amazonaws.com.cn")):
        return f"{'https' if settings.secure else 'http'}://{settings.endpoint}"
    china = ".cn" if settings.endpoint.endswith(".cn") else ""
    return f"https://sts.{region}.amazonaws.com{china}"
