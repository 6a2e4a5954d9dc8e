"""Objects in an S3 bucket. Requests are `s3_client`'s, writing is `s3_writer`'s, and errors are `s3_errors`'.

Reading, links and deleting need the SDK alone; `write` also needs tenacity, which a CKAN virtualenv does not have.
"""

from __future__ import annotations

import contextlib
import io
import secrets
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import BinaryIO

from datastore_dumper.errors import ObjectChangedError, StorageError
from datastore_dumper.storage.base import (
    CHECK_PREFIX,
    BytesPart,
    ObjectHeaders,
    Part,
    ReusePart,
    StoredObject,
    WrittenObject,
)
from datastore_dumper.storage.s3_client import BodyStream, S3Client
from datastore_dumper.storage.s3_errors import RangeError, UnsupportedError, UploadMissingError
from datastore_dumper.storage.settings import S3Settings


class S3Storage:
    """`Storage` in one bucket."""

    def __init__(self, settings: S3Settings) -> None:
        self.settings = settings
        self._client = S3Client(settings)
        self._copies = True  # until `check` finds otherwise

    def check(self) -> list[str]:
        # A listing first: unlike HEAD, its answer has a body that says what is wrong.
        next(self._client.list(""), None)
        name = f"{CHECK_PREFIX}{secrets.token_hex(8)}"
        first, second = f"{name}/first", f"{name}/second"
        content = secrets.token_bytes(64)
        headers = ObjectHeaders("application/octet-stream", "check")
        try:
            written = self.write(first, [BytesPart(content)], headers)
            with self.open(first) as stream:
                if stream.read() != content:
                    raise StorageError(f"storage.s3.bucket {self.settings.bucket!r}: bytes read are not those written")
            fault = self._fault_of_copies(first, written.etag, content, second)
        finally:
            self.delete(first)
            self.delete(second)
        self._copies = not fault
        return [f"The S3 service does not copy ranges right, so files are uploaded whole: {fault}"] if fault else []

    def _fault_of_copies(self, source: str, etag: str, content: bytes, target: str) -> str:
        """What is wrong with UploadPartCopy of a range, if anything. Some services ignore the range or the condition."""
        try:
            # A copy of one part is a whole multipart upload: create, UploadPartCopy, complete.
            self._write_by_copying(target, ReusePart(source, etag, 7, 40))
            with self.open(target) as stream:
                if stream.read() != content[7:47]:
                    return "other bytes arrived"
            self.delete(target)
            try:
                self._write_by_copying(target, ReusePart(source, f"not-{etag}", 7, 40))
            except ObjectChangedError:
                return ""
        except StorageError as error:  # errors 500 and the like, too: some services answer so to what they do not know
            return error.message
        return "x-amz-copy-source-if-match is ignored"

    def _write_by_copying(self, key: str, part: ReusePart) -> None:
        from datastore_dumper.storage.s3_writer import write_object

        write_object(self._client, key, [part], ObjectHeaders("application/octet-stream", "check"))

    def write(self, key: str, parts: Iterable[Part], headers: ObjectHeaders) -> WrittenObject:
        from datastore_dumper.storage.s3_writer import write_object

        return write_object(self._client, key, parts, headers, copies=self._copies)

    def stat(self, key: str) -> StoredObject:
        return self._client.stat(key)

    def open(self, key: str, *, offset: int = 0, length: int | None = None) -> BinaryIO:
        if length == 0:
            self.stat(key)
            return io.BytesIO()
        try:
            response = self._client.get(key, offset, length)
        except RangeError:
            return io.BytesIO()
        return io.BufferedReader(BodyStream(self.settings, key, response))

    def link(self, key: str, headers: ObjectHeaders, expires_seconds: int) -> str | None:
        """With temporary credentials the link dies with them, however long `expires_seconds` is."""
        return self._client.link(key, headers, expires_seconds)

    def delete(self, key: str) -> None:
        self._client.delete(key)
        self._abort(key, None, exact=True)

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        # A few files for each table: small enough to sort here.
        yield from sorted(self._client.list(prefix), key=lambda stored: stored.key.encode())

    def read_mark(self) -> bytes | None:
        return self._client.read_mark()

    def write_mark(self, data: bytes, *, replace: bool) -> None:
        if not replace:
            with contextlib.suppress(UnsupportedError):
                self._client.write_mark(data, replace=False)
                return
        self._client.write_mark(data, replace=True)

    def sweep(self, before: datetime, *, dry_run: bool = False) -> int:
        return self._abort("", before, exact=False, dry_run=dry_run)

    def _abort(self, prefix: str, before: datetime | None, *, exact: bool, dry_run: bool = False) -> int:
        aborted = 0
        try:
            found = list(self._client.uploads(prefix))
        except UnsupportedError:  # a service that does not list uploads clears them by itself, or nobody can
            return 0
        for key, upload_id, begun in found:
            if (exact and key != prefix) or (before is not None and begun >= before):
                continue
            try:
                if not dry_run:
                    self._client.abort_upload(key, upload_id)
            except UploadMissingError:
                continue
            aborted += 1
        return aborted
