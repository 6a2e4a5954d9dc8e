"""Uploads its standard input, part by part as it comes, in place of `aws s3 cp - s3://...`: `upload.py BUCKET KEY`. Says how
many bytes it sent."""

from __future__ import annotations

import os
import sys
from typing import BinaryIO, cast

from minio import Minio

_PART_BYTES = 8 << 20  # aws s3 cp's multipart_chunksize


class Counted:
    """A stream, and how much was read of it."""

    def __init__(self, stream: BinaryIO) -> None:
        self.bytes = 0
        self._stream = stream

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self.bytes += len(data)
        return data


def main() -> None:
    bucket, key = sys.argv[1:]
    client = Minio(
        os.environ["S3_ENDPOINT"],
        os.environ["S3_ACCESS_KEY"],
        os.environ["S3_SECRET_KEY"],
        secure=False,
        region="us-east-1",
    )
    counted = Counted(sys.stdin.buffer)
    client.put_object(bucket, key, cast("BinaryIO", counted), length=-1, part_size=_PART_BYTES)
    sys.stdout.write(f"{counted.bytes}\n")


if __name__ == "__main__":
    main()
