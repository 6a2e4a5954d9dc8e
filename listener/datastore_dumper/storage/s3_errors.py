"""Answers and failures of an S3 service as our errors, each naming the setting to look at and the way out.

Codes: Amazon S3 API reference, "Error responses". An answer that is not XML (a proxy's, rclone's) counts by its status.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from xml.etree.ElementTree import ParseError

from minio.error import InvalidResponseError, MinioException, S3Error, ServerError
from urllib3.exceptions import HTTPError, MaxRetryError, SSLError

from datastore_dumper.errors import (
    ConfigError,
    DumperError,
    ObjectChangedError,
    ObjectMissingError,
    PermissionDeniedError,
    StorageError,
    StorageUnavailableError,
)
from datastore_dumper.storage.settings import S3Settings

RIGHTS = (
    "Needed: s3:ListBucket and s3:ListBucketMultipartUploads on the bucket; s3:GetObject, s3:PutObject, "
    "s3:DeleteObject and s3:AbortMultipartUpload on its objects (CKAN: s3:GetObject alone)."
)
_LATER = {
    "BandwidthLimitExceeded", "InternalError", "OperationAborted", "RequestLimitExceeded", "RequestTimeout",
    "ServiceUnavailable", "SlowDown", "SlowDownRead", "SlowDownWrite", "Throttling", "ThrottlingException",
    "TooManyRequests",
}  # fmt: skip
_WRONG_REGION = {
    "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect", "Redirect",
    "TemporaryRedirect",
}  # fmt: skip
_TOKEN = {"ExpiredToken", "InvalidToken", "TokenRefreshRequired"}
_UNSUPPORTED = {"NotImplemented", "MethodNotAllowed"}


class UploadMissingError(StorageError):
    """The multipart upload is gone: aborted, or completed although we did not get the answer."""


class UnsupportedError(StorageError):
    """The service does not have this operation."""


class RangeError(StorageError):
    """The range begins where the object has ended."""


@contextlib.contextmanager
def s3_errors(settings: S3Settings, doing: str) -> Iterator[None]:
    """What the SDK, urllib3 and the XML parser raise, as one of ours. `doing` ("reading 'a/b'") is for the message."""
    try:
        yield
    except DumperError:
        raise
    except S3Error as error:
        raise from_code(settings, doing, error.code or "", error.response.status, error.message or "") from error
    except InvalidResponseError as error:
        raise from_code(settings, doing, "", error._code, (error._body or "")[:200]) from error
    except ServerError as error:
        raise from_code(settings, doing, "", error.status_code, "") from error
    except HTTPError as error:
        raise from_transport(settings.endpoint, doing, error) from error
    except (MinioException, ParseError, ValueError) as error:
        raise StorageError(
            f"{doing}: the answer of {settings.endpoint} cannot be understood: {error}",
            hint="Is storage.s3.endpoint an S3 service?",
        ) from error
    except OSError as error:
        raise StorageUnavailableError(f"{doing}: {error}") from error


def from_code(settings: S3Settings, doing: str, code: str, status: int, message: str) -> DumperError:
    """The error for an S3 error code, or, without a known one, for an HTTP status."""
    what = f"{doing}: {settings.endpoint} answered {code or status}" + (f": {message[:300]}" if message else "")
    if code == "NoSuchBucket":
        return ConfigError(
            f"{doing}: the bucket {settings.bucket!r} does not exist at {settings.endpoint}",
            hint="Check storage.s3.bucket, or create the bucket (private).",
        )
    if code == "NoSuchUpload":
        return UploadMissingError(what)
    if code == "NoSuchKey":
        return ObjectMissingError(what)
    if code in {"PreconditionFailed", "ConditionalRequestConflict"} or status == 412:
        return ObjectChangedError(what)
    if code == "InvalidRange" or status == 416:
        return RangeError(what)
    if code == "SignatureDoesNotMatch":
        return PermissionDeniedError(what, hint="Check storage.s3.secret_key.")
    if code == "InvalidAccessKeyId":
        return PermissionDeniedError(what, hint="Check storage.s3.access_key: the service does not know it.")
    if code in _TOKEN:
        return PermissionDeniedError(what, hint="Renew storage.s3.session_token and the keys that belong to it.")
    if code == "RequestTimeTooSkewed":
        return StorageError(what, hint="Set the clock of this machine (NTP): a signature holds for 15 minutes.")
    if code in _WRONG_REGION or status in {301, 307}:
        return ConfigError(what, hint="Set storage.s3.region and storage.s3.endpoint to the region the bucket is in.")
    if code in _UNSUPPORTED or status in {405, 501}:
        return UnsupportedError(what, hint=f"{settings.endpoint} lacks an operation of S3 that is needed here.")
    if code in _LATER or status == 429 or status >= 500:
        return StorageUnavailableError(what, hint="It may pass. If not, look at the storage service's log.")
    if code == "AccessDenied" or status in {401, 403}:
        return PermissionDeniedError(
            what, hint=f"Check storage.s3.access_key, storage.s3.secret_key and what the key may do. {RIGHTS}"
        )
    if status == 404:
        return ObjectMissingError(what)
    return StorageError(what)


def from_transport(endpoint: str, doing: str, error: HTTPError | OSError) -> DumperError:
    """The error for a request that `endpoint` did not answer, or answered again and again that it cannot now."""
    reason = error.reason if isinstance(error, MaxRetryError) and error.reason is not None else error
    what = f"{doing}: {endpoint} cannot be reached: {reason}"
    if isinstance(reason, SSLError):
        cause = reason.args[0] if reason.args else None
        if isinstance(cause, ssl.SSLCertVerificationError):
            return ConfigError(
                what,
                hint="Set storage.s3.ca_file to the authority that signed its certificate, and storage.s3.endpoint to "
                "the name in it.",
            )
        if "WRONG_VERSION_NUMBER" in str(cause) or "RECORD_LAYER_FAILURE" in str(cause):
            return ConfigError(what, hint="It speaks http, not https: set storage.s3.secure to false.")
    return StorageUnavailableError(
        what, hint="Check storage.s3.endpoint and storage.s3.secure, and the service behind it."
    )
