"""Writes one object to S3: one PUT, or a multipart upload with a few parts on their way at once. What goes into which
part is `multipart`'s decision, and how a request is made is `s3_client`'s.

All or nothing: the first failure ends reading and sending, whatever it is (a KeyboardInterrupt too), and the upload is
aborted after the last thread has ended, so that no late part stays behind (S3 API, AbortMultipartUpload).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from itertools import chain
from typing import TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from datastore_dumper.errors import DumperError, ObjectMissingError, StorageError, StorageUnavailableError
from datastore_dumper.failpoints import failpoint
from datastore_dumper.storage.base import BytesPart, ObjectHeaders, Part, ReusePart, WrittenObject
from datastore_dumper.storage.multipart import CopyPart, Limits, Piece, UploadPart, plan
from datastore_dumper.storage.s3_client import S3Client
from datastore_dumper.storage.s3_errors import UploadMissingError
from datastore_dumper.storage.settings import MIB

_READ_BYTES = MIB
T = TypeVar("T")


def write_object(
    client: S3Client, key: str, parts: Iterable[Part], headers: ObjectHeaders, *, copies: bool = True
) -> WrittenObject:
    """See `Storage.write`. Without `copies`, what is to be reused is fetched and uploaded."""
    source = iter(parts)
    try:
        return _Writer(client, key, headers, copies).write(source)
    finally:
        close = getattr(source, "close", None)
        if close is not None:
            close()


class _Writer:
    """One object on its way."""

    def __init__(self, client: S3Client, key: str, headers: ObjectHeaders, copies: bool) -> None:
        self._client = client
        self._key = key
        self._headers = headers
        self._limits = Limits(part_bytes=client.settings.part_bytes, copies=copies)
        self._failure: BaseException | None = None
        """Of the first part that failed, set in its thread."""
        self._uploaded = self._reused = 0

    def write(self, source: Iterator[Part]) -> WrittenObject:
        planned = plan(self._load(source), self._limits)
        first = next(planned)
        if isinstance(first, UploadPart) and first.last:
            return self._put(first)
        return self._upload(chain([first], planned))

    def _load(self, source: Iterator[Part]) -> Iterator[Piece]:
        """Files as bytes, in small pieces, and a stop as soon as a part has failed."""
        for part in source:
            for piece in _pieces(part):
                if self._failure is not None:
                    raise self._failure
                yield piece

    def _put(self, part: UploadPart) -> WrittenObject:
        failpoint("before_part")
        data = bytes(self._joined(list(part.pieces)))
        failpoint("after_part")
        self._uploaded = part.length
        try:
            failpoint("before_complete")
            etag = self._client.put(self._key, data, self._headers)
            failpoint("after_complete")
            return self._verified(etag)
        except BaseException:
            # The request may have been carried out although we did not get the answer.
            with contextlib.suppress(DumperError):
                self._client.delete(self._key)
            raise

    def _upload(self, planned: Iterator[UploadPart | CopyPart]) -> WrittenObject:
        upload_id = ""
        created = 0

        def create() -> str:
            nonlocal created
            created += 1
            return self._client.create_upload(self._key, self._headers)

        try:
            upload_id = _retried(create)
            etags = self._send_all(upload_id, planned)
            failpoint("before_complete")
            etag = self._complete(upload_id, etags)
            failpoint("after_complete")
            written = self._verified(etag)
        except BaseException:
            self._discard(upload_id)
            raise
        if created > 1:  # what was not answered may have begun an upload all the same
            with contextlib.suppress(DumperError):
                self._abort_uploads()
        return written

    def _send_all(self, upload_id: str, planned: Iterator[UploadPart | CopyPart]) -> dict[int, str]:
        """The etags of the parts, by number."""
        parallel = self._client.settings.parallel_parts
        etags: dict[int, str] = {}
        running: dict[Future[str], int] = {}

        def collect(most: int) -> None:
            """Wait until no more than `most` parts are on their way."""
            while len(running) > most:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    etags[running.pop(future)] = future.result()

        threads = ThreadPoolExecutor(max_workers=parallel, thread_name_prefix="s3-part")
        try:
            for part in planned:
                collect(parallel - 1)
                if isinstance(part, CopyPart):
                    self._reused += part.length
                else:
                    self._uploaded += part.length
                # The thread takes it out of the box, so that its bytes are there no longer than they are needed.
                number, box = part.number, [part]
                del part
                running[threads.submit(self._send, upload_id, box)] = number
            collect(0)
        finally:
            threads.shutdown(wait=True, cancel_futures=True)
        return etags

    def _send(self, upload_id: str, box: list[UploadPart | CopyPart]) -> str:
        """In a thread: send the part in the box, return its etag."""
        part = box.pop()
        number = part.number
        try:
            failpoint("before_part")
            if isinstance(part, CopyPart):
                etag = _retried(partial(self._client.copy_part, self._key, upload_id, number, part.source))
            else:
                pieces = list(part.pieces)
                del part
                data = self._joined(pieces)
                etag = self._client.upload_part(self._key, upload_id, number, data)
            failpoint("after_part")
        except BaseException as error:
            self._failure = self._failure or error
            raise
        return etag

    def _joined(self, pieces: list[Piece]) -> bytearray:
        """The bytes of the pieces, of which each is let go of as soon as it is copied."""
        data = bytearray(sum(piece.length for piece in pieces))
        at = 0
        pieces.reverse()
        while pieces:
            piece = pieces.pop()
            length = piece.length
            content = _retried(partial(self._client.get_bytes, piece)) if isinstance(piece, ReusePart) else piece.data
            data[at : at + length] = content
            at += length
        return data

    def _complete(self, upload_id: str, etags: dict[int, str]) -> str:
        """The object's etag. An answer that got lost is not a failure: the repeated request finds no upload, or fails
        again, but the object is there."""
        try:
            return _retried(lambda: self._client.complete_upload(self._key, upload_id, etags))
        except (UploadMissingError, StorageUnavailableError) as error:
            try:
                return _retried(lambda: self._client.stat(self._key)).etag
            except ObjectMissingError:
                raise error from None

    def _verified(self, etag: str) -> WrittenObject:
        stored = _retried(lambda: self._client.stat(self._key))
        length = self._uploaded + self._reused
        if stored.length != length or (etag and stored.etag != etag):
            raise StorageError(
                f"the object {self._key!r} has {stored.length} bytes and etag {stored.etag} after it was written, "
                f"expected {length} and {etag}"
            )
        return WrittenObject(self._key, length, stored.etag, self._uploaded, self._reused)

    def _discard(self, upload_id: str) -> None:
        """Leave nothing under the key: no upload (nor one whose id never arrived), no object (completed unnoticed). If
        the service is gone there is no point in insisting: `sweep` and the garbage collection do it later."""
        with contextlib.suppress(DumperError):
            if upload_id:
                with contextlib.suppress(UploadMissingError):
                    self._client.abort_upload(self._key, upload_id)
            self._client.delete(self._key)
            self._abort_uploads()

    def _abort_uploads(self) -> None:
        for key, unfinished, _ in self._client.uploads(self._key):
            if key == self._key:
                self._client.abort_upload(key, unfinished)


def _pieces(part: Part) -> Iterator[Piece]:
    if isinstance(part, ReusePart):
        yield part
    elif isinstance(part, BytesPart):
        for start in range(0, part.length, _READ_BYTES):
            yield part if part.length <= _READ_BYTES else BytesPart(part.data[start : start + _READ_BYTES])
    else:
        left = part.length
        with part.open() as file:
            file.seek(part.offset)
            while left:
                data = file.read(min(left, _READ_BYTES))
                if not data:
                    raise StorageError(f"{part.path} ends {left} bytes before byte {part.offset + part.length}")
                left -= len(data)
                yield BytesPart(data)


def _retried(request: Callable[[], T]) -> T:
    """urllib3 repeats what is idempotent. Repeated here: POST, what fails in an answer of status 200, bodies that end
    early."""
    retrying = Retrying(
        retry=retry_if_exception_type(StorageUnavailableError),
        stop=stop_after_attempt(4),
        wait=wait_random_exponential(multiplier=0.3, max=5),
        reraise=True,
    )
    return retrying(request)
