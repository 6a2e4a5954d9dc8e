from __future__ import annotations

import dataclasses
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from datastore_dumper.storage.base import Storage
from datastore_dumper.storage.s3 import S3Storage
from datastore_dumper.storage.settings import DiskSettings, S3Settings, open_storage
from tests.support.faulty_front import Front, front
from tests.support.seaweedfs import S3Server


@pytest.fixture
def s3_settings(s3_server: S3Server, s3_bucket: str) -> S3Settings:
    return S3Settings(
        endpoint=s3_server.endpoint,
        secure=s3_server.secure,
        bucket=s3_bucket,
        prefix="dumps/portal",
        access_key=s3_server.access_key,
        secret_key=s3_server.secret_key,
        region=s3_server.region,
    )


@pytest.fixture
def s3(s3_settings: S3Settings) -> S3Storage:
    return S3Storage(s3_settings)


@pytest.fixture
def faulty(s3_settings: S3Settings) -> Iterator[Front]:
    """A front before the S3 service; `s3_through` reaches it."""
    if s3_settings.secure:
        pytest.skip("the front speaks http")
    with front(s3_settings.endpoint) as state:
        yield state


@pytest.fixture
def s3_through(s3_settings: S3Settings) -> Callable[..., S3Storage]:
    """`s3_through(front, **changed settings)`: the same bucket by way of the front, with small parts."""

    def make(state: Front, **changes: object) -> S3Storage:
        changed = {"endpoint": state.endpoint, "part_bytes": 5 << 20, **changes}
        return S3Storage(dataclasses.replace(s3_settings, **changed))

    return make


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Self-signed, for 127.0.0.1, with its key in the same file; by itself it is `cert.pem` beside it."""
    path = tmp_path / "server.pem"
    if shutil.which("openssl") is None:
        pytest.skip("no openssl command to make a certificate with")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=storage"
    subprocess.run(
        [*command.split(), "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", path, "-out", tmp_path / "cert.pem"],
        check=True,
        capture_output=True,
        timeout=60,
    )
    path.write_bytes(path.read_bytes() + (tmp_path / "cert.pem").read_bytes())
    return path


@pytest.fixture(params=["disk", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """Both members of the protocol."""
    if request.param == "disk":
        directory = tmp_path / "storage"
        directory.mkdir()
        return open_storage(DiskSettings(directory))
    return open_storage(request.getfixturevalue("s3_settings"))
