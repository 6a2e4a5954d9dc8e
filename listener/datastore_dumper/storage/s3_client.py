"""The requests we make of an S3 service, one method each, over the minio SDK. When to make them is not for here.

This is the only place that touches the SDK's private methods (they are stable in 7.2, and 8 is shut out): the public
ones assemble parts in quadratic time, leak threads, read on after a failure and take a failed completion for success.

Payloads: over http the SDK signs their SHA-256; over https, where TLS protects them, it sends Content-MD5 instead.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import datetime, timedelta, timezone
from typing import cast
from urllib.parse import quote
from xml.etree import ElementTree as ET

from minio import Minio
from minio.credentials.providers import Provider
from minio.error import S3Error
from minio.helpers import BaseURL, check_bucket_name
from minio.xml import findtext
from urllib3 import PoolManager, Retry
from urllib3.response import HTTPResponse

from datastore_dumper.errors import ConfigError, StorageError, StorageUnavailableError
from datastore_dumper.storage.base import ObjectHeaders, ReusePart, StoredObject
from datastore_dumper.storage.disposition import content_disposition
from datastore_dumper.storage.keys import MARK_NAME, check_key, clean_prefix
from datastore_dumper.storage.s3_credentials import credentials_of
from datastore_dumper.storage.s3_errors import from_code, s3_errors
from datastore_dumper.storage.s3_pool import RETRIED_STATUSES, connections
from datastore_dumper.storage.settings import S3Settings

# SigV4 in the query: 1 second to 7 days (Amazon S3 User Guide, "Sharing objects with presigned URLs").
MAX_LINK_SECONDS = 7 * 24 * 3600
_DEFAULT_REGION = "us-east-1"
_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


class S3Client:
    """One bucket. Threads may share it; processes may not, once it has been used. Keys are without the prefix."""

    def __init__(self, settings: S3Settings) -> None:
        self.settings = settings
        try:
            self._prefix = clean_prefix(settings.prefix)
        except ValueError as error:
            raise ConfigError(f"storage.s3.prefix {settings.prefix!r} is not valid: {error}") from None
        for name in ("endpoint", "public_endpoint"):
            if "://" in getattr(settings, name):
                raise ConfigError(
                    f"storage.s3.{name} {getattr(settings, name)!r} has a scheme",
                    hint="Give host:port alone; storage.s3.secure (or public_secure) chooses https or http.",
                )
        public_secure = settings.secure if settings.public_secure is None else settings.public_secure
        region = settings.region or _region_of(settings.endpoint, settings.secure)
        credentials = credentials_of(settings, region)
        self._minio = self._connect("storage.s3.endpoint", settings.endpoint, settings.secure, region, credentials)
        self._public = self._minio
        if settings.public_endpoint:
            name = "storage.s3.public_endpoint"
            self._public = self._connect(name, settings.public_endpoint, public_secure, region, credentials)
        try:
            check_bucket_name(settings.bucket, s3_check=self._minio._base_url.is_aws_host)
        except ValueError as error:
            raise ConfigError(f"storage.s3.bucket {settings.bucket!r} is not valid: {error}") from None

    def put(self, key: str, data: bytes, headers: ObjectHeaders) -> str:
        """Returns the etag. No `If-None-Match: *`: not every service has it, keys are unguessable, and a repeated
        request whose first answer was lost would meet its own object."""
        with self._errors(f"writing {key!r}"):
            result = self._minio._put_object(self.settings.bucket, self._name(key), data, _metadata(headers))
            return result.etag or ""

    def get(self, key: str, offset: int = 0, length: int | None = None, etag: str = "") -> HTTPResponse:
        """The answer, its body unread: bytes from `offset`. Raises `RangeError` if the object has none there, and
        `ObjectChangedError` if its etag is not `etag`. The caller closes it and releases its connection."""
        headers: dict[str, str | list[str] | tuple[str]] = {}
        if etag:
            headers["If-Match"] = f'"{etag}"'
        ranged = bool(offset) or length is not None
        if ranged:
            headers["Range"] = f"bytes={offset}-" + ("" if length is None else str(offset + length - 1))
        with self._errors(f"reading {key!r}"):
            response = self._minio._execute(
                "GET", self.settings.bucket, self._name(key), headers=headers, preload_content=False
            )
        if ranged and response.status != 206:
            response.close()
            raise StorageError(f"reading {key!r}: {self.settings.endpoint} ignored the range asked for")
        return cast(HTTPResponse, response)

    def get_bytes(self, part: ReusePart) -> bytes:
        """The bytes of the part, all of them, if the object's etag is still the part's."""
        response = self.get(part.key, part.offset, part.length, part.etag)
        try:
            with self._errors(f"reading {part.key!r}"):
                data = response.read(decode_content=False)
        finally:
            response.close()
            response.release_conn()
        if len(data) != part.length:
            raise StorageUnavailableError(f"reading {part.key!r}: got {len(data)} bytes instead of {part.length}")
        return data

    def stat(self, key: str) -> StoredObject:
        with self._errors(f"looking up {key!r}"):
            found = self._minio.stat_object(self.settings.bucket, self._name(key))
            return _stored(key, found.size, found.etag, found.last_modified)

    def delete(self, key: str) -> None:
        with self._errors(f"deleting {key!r}"):
            self._minio.remove_object(self.settings.bucket, self._name(key))

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """In the order the service has: AWS by the bytes of the keys, SeaweedFS folder by folder."""
        with self._errors(f"listing the bucket {self.settings.bucket!r}"):
            found = self._minio.list_objects(self.settings.bucket, prefix=self._prefix + prefix, recursive=True)
            for item in found:
                if item.object_name and not item.is_dir and item.object_name.rpartition("/")[2] != MARK_NAME:
                    yield _stored(item.object_name[len(self._prefix) :], item.size, item.etag, item.last_modified)

    def read_mark(self) -> bytes | None:
        with self._errors("reading the mark"):
            try:
                response = self._minio._execute("GET", self.settings.bucket, self._prefix + MARK_NAME)
            except S3Error as error:
                if error.code == "NoSuchKey":
                    return None
                raise
            return response.data

    def write_mark(self, data: bytes, *, replace: bool) -> None:
        """Raises `ObjectChangedError` if there is one and it is not to be replaced, `UnsupportedError` if the service
        says that it cannot tell."""
        headers: dict[str, str | list[str] | tuple[str]] = {"Content-Type": "application/json"}
        if not replace:
            headers["If-None-Match"] = "*"
        with self._errors("writing the mark"):
            self._minio._put_object(self.settings.bucket, self._prefix + MARK_NAME, data, headers)

    def create_upload(self, key: str, headers: ObjectHeaders) -> str:
        """Returns the upload's id."""
        with self._errors(f"beginning the upload of {key!r}"):
            return self._minio._create_multipart_upload(self.settings.bucket, self._name(key), _metadata(headers))

    def upload_part(self, key: str, upload_id: str, number: int, data: bytes | bytearray) -> str:
        """Returns the part's etag."""
        with self._errors(f"uploading part {number} of {key!r}"):
            # Hashed and sent as it is; bytes would be a copy.
            etag = self._minio._upload_part(
                self.settings.bucket,
                self._name(key),
                data,  # type: ignore[arg-type]
                None,
                upload_id,
                number,
            )
        if not etag:
            raise StorageError(f"part {number} of {key!r} was answered without an etag")
        return etag

    def copy_part(self, key: str, upload_id: str, number: int, part: ReusePart) -> str:
        """UploadPartCopy. Returns the part's etag; raises `ObjectChangedError` if the source's is not `part.etag`."""
        doing = f"copying {part.key!r} into part {number} of {key!r}"
        query: dict[str, str | list[str] | tuple[str]] = {"partNumber": str(number), "uploadId": upload_id}
        headers: dict[str, str | list[str] | tuple[str]] = {
            "x-amz-copy-source": quote(f"/{self.settings.bucket}/{self._name(part.key)}"),
            "x-amz-copy-source-if-match": f'"{part.etag}"',
            "x-amz-copy-source-range": f"bytes={part.offset}-{part.offset + part.length - 1}",
        }
        with self._errors(doing):
            response = self._minio._execute(
                "PUT", self.settings.bucket, self._name(key), headers=headers, query_params=query
            )
            return self._etag(doing, response.data)

    def complete_upload(self, key: str, upload_id: str, etags: dict[int, str]) -> str:
        """Returns the object's etag. `etags`: of the parts, by their numbers."""
        doing = f"completing the upload of {key!r}"
        root = ET.Element("CompleteMultipartUpload", xmlns=_NAMESPACE)
        for number, etag in sorted(etags.items()):
            part = ET.SubElement(root, "Part")
            ET.SubElement(part, "PartNumber").text = str(number)
            ET.SubElement(part, "ETag").text = f'"{etag}"'
        with self._errors(doing):
            response = self._minio._execute(
                "POST",
                self.settings.bucket,
                self._name(key),
                body=ET.tostring(root),
                headers={"Content-Type": "application/xml"},
                query_params={"uploadId": upload_id},
            )
            return self._etag(doing, response.data)

    def abort_upload(self, key: str, upload_id: str) -> None:
        with self._errors(f"aborting the upload of {key!r}"):
            self._minio._abort_multipart_upload(self.settings.bucket, self._name(key), upload_id)

    def uploads(self, prefix: str) -> Iterator[tuple[str, str, datetime]]:
        """Key, id and beginning of the unfinished uploads of keys that start with `prefix`."""
        marker = ""
        while True:
            with self._errors(f"listing the unfinished uploads in the bucket {self.settings.bucket!r}"):
                page = self._minio._list_multipart_uploads(
                    self.settings.bucket, prefix=self._prefix + prefix, key_marker=marker or None
                )
            for upload in page.uploads:
                begun = upload.initiated_time or datetime.now(timezone.utc)
                yield upload.object_name[len(self._prefix) :], cast(str, upload.upload_id), begun
            if not page.is_truncated or not page.next_key_marker or page.next_key_marker <= marker:
                return
            marker = page.next_key_marker

    def link(self, key: str, headers: ObjectHeaders, expires_seconds: int) -> str:
        """A presigned GET on the public endpoint. The region is fixed, so the SDK asks nobody for it."""
        if not 1 <= expires_seconds <= MAX_LINK_SECONDS:
            raise ConfigError(f"a link cannot hold for {expires_seconds} s, but for 1 to {MAX_LINK_SECONDS}")
        with self._errors(f"making a link to {key!r}"):
            return self._public.get_presigned_url(
                "GET",
                self.settings.bucket,
                self._name(key),
                expires=timedelta(seconds=expires_seconds),
                response_headers={
                    "response-content-type": headers.content_type,
                    "response-content-disposition": content_disposition(headers.filename),
                },
            )

    def _errors(self, doing: str) -> AbstractContextManager[None]:
        return s3_errors(self.settings, doing)

    def _name(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _etag(self, doing: str, body: bytes) -> str:
        """From an answer that may be an error although its status is 200: the status was sent before the work was done
        (S3 API, CompleteMultipartUpload and UploadPartCopy)."""
        root = ET.fromstring(body)  # noqa: S314 - the SDK parses every other answer of the same server likewise
        if root.tag.rpartition("}")[2] == "Error":
            raise from_code(self.settings, doing, findtext(root, "Code") or "", 200, findtext(root, "Message") or "")
        etag = (findtext(root, "ETag") or "").replace('"', "")
        if not etag:
            raise StorageError(f"{doing}: {self.settings.endpoint} answered without an etag")
        return etag

    def _connect(self, setting: str, endpoint: str, secure: bool, region: str, credentials: Provider) -> Minio:
        try:
            client = Minio(endpoint, secure=secure, region=region, credentials=credentials, http_client=self._pool())
        except ValueError as error:
            raise ConfigError(f"{setting} {endpoint!r} or storage.s3.region {region!r} is not valid: {error}") from None
        if self.settings.addressing_style == "virtual":
            client._base_url.virtual_style_flag = True
        elif self.settings.addressing_style == "path":
            client._base_url.virtual_style_flag = False
        return client

    def _pool(self) -> PoolManager:
        """With bounded retries: the SDK would wait five minutes, and a Retry-After could ask for more."""
        retries = Retry(
            total=self.settings.retries,
            backoff_factor=0.2,
            status_forcelist=RETRIED_STATUSES,
            raise_on_status=False,  # keeps the S3 error code
            respect_retry_after_header=False,
        )
        return connections(
            self.settings,
            retries,
            read_seconds=self.settings.read_timeout_seconds,
            maxsize=self.settings.parallel_parts + 1,
        )


class BodyStream(io.RawIOBase):
    """The body of a GET as a stream: errors are ours, and a body cut short is one. Closing it frees the connection."""

    def __init__(self, settings: S3Settings, key: str, response: HTTPResponse) -> None:
        super().__init__()
        self._settings = settings
        self._key = key
        self._response = response
        self._left = int(response.headers.get("content-length", "0"))

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        if not self._left or not len(buffer):
            return 0
        with s3_errors(self._settings, f"reading {self._key!r}"):
            data = self._response.read(min(len(buffer), self._left), decode_content=False)
        if not data:
            raise StorageUnavailableError(f"reading {self._key!r}: the answer ended {self._left} bytes early")
        buffer[: len(data)] = data
        self._left -= len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            if self._left:
                self._response.close()
            self._response.release_conn()
        super().close()


def _region_of(endpoint: str, secure: bool) -> str:
    try:
        return BaseURL(("https://" if secure else "http://") + endpoint, None).region or _DEFAULT_REGION
    except ValueError as error:
        raise ConfigError(f"storage.s3.endpoint {endpoint!r} is not valid: {error}") from None


def _metadata(headers: ObjectHeaders) -> dict[str, str | list[str] | tuple[str]]:
    """Never an ACL: objects are private, and a bucket without ACLs refuses one."""
    return {
        "Content-Type": headers.content_type,
        "Content-Disposition": content_disposition(headers.filename),
    }


def _stored(key: str, length: int | None, etag: str | None, modified: datetime | None) -> StoredObject:
    if length is None or not etag or modified is None:
        raise StorageError(f"the storage says nothing of the length, etag or time of {key!r}")
    return StoredObject(key, length, etag, modified)
