"""A storage that fails is left alone for a while, in proportion to how long somebody waited for it."""

from __future__ import annotations

import socket
import time

import pytest

from ckanext.datastore_dumper.watch import StorageWatch, away_seconds
from datastore_dumper.errors import ObjectMissingError, StorageUnavailableError
from datastore_dumper.storage.base import Storage
from datastore_dumper.storage.settings import S3Settings, open_storage
from tests.support.seaweedfs import S3Server


def storage(endpoint: str, role: str = "") -> Storage:
    return open_storage(
        S3Settings(
            endpoint=endpoint,
            bucket="dumps",
            secure=False,
            access_key="a",
            secret_key="b" * 8,
            role=role,
            read_timeout_seconds=1,
            retries=0,
        )
    )


@pytest.mark.parametrize(("waited", "away"), [(0.0, 10), (1.0, 10), (20.0, 180)])
def test_how_long(waited: float, away: float) -> None:
    assert away_seconds(waited) == away


def test_one_waits_for_a_silent_service_and_nobody_after() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and never reads
        watch = StorageWatch(storage(f"127.0.0.1:{silent.getsockname()[1]}"), 60)
        with pytest.raises(StorageUnavailableError, match="cannot be reached"):
            watch.expect("a/b", 1)
        began = time.monotonic()
        for _ in range(20):
            with pytest.raises(StorageUnavailableError, match="a moment ago"):
                watch.expect("a/b", 1)
        assert time.monotonic() - began < 10  # twenty waits take longer


def test_credentials_that_cannot_be_had_are_not_asked_for_again_soon() -> None:
    """Whoever gives them may be silent, too."""
    watch = StorageWatch(storage("127.0.0.1:1", "arn:aws:iam::1:role/dumps"), 60)
    with pytest.raises(StorageUnavailableError, match="assuming the role"):
        watch.expect("a/b", 1)
    with pytest.raises(StorageUnavailableError, match="a moment ago"):
        watch.expect("a/b", 1)


def test_an_object_that_is_missing_is_no_failure_of_the_storage(s3_server: S3Server) -> None:
    keys = {"access_key": s3_server.access_key, "secret_key": s3_server.secret_key}
    s3_server.client().make_bucket("watched")
    watch = StorageWatch(
        open_storage(S3Settings(endpoint=s3_server.endpoint, bucket="watched", secure=False, **keys)), 60
    )
    for _ in range(2):
        with pytest.raises(ObjectMissingError):
            watch.expect("a/b", 1)
