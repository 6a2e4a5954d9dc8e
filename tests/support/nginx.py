"""A real nginx, with the configuration from deploy/nginx changed in what a test has elsewhere."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from datastore_dumper.demo.child import start_child, stop_child
from tests.support.ckan_env import CHECKOUT
from tests.support.ports import free_port
from tests.support.waiting import eventually

_DEPLOY = CHECKOUT / "deploy" / "nginx"
_BASE = """
{user}
worker_processes 1;
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log {directory}/error.log notice;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    {server}
}}
"""
_BEFORE_CKAN = """
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass {ckan};
            proxy_set_header Host $http_host;
        }}
        {locations}
    }}
"""


def nginx_program() -> str:
    """Its path; the test is skipped where there is none, but in continuous integration it fails."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(
            "no nginx: install it (apt-get install nginx-light)"
        )
    return program


def deployed(name: str, changes: dict[str, str]) -> str:
    """A file of deploy/nginx with other values: each key of `changes` must be in it."""
    text = (_DEPLOY / name).read_text(encoding="utf-8")
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


@contextmanager
def nginx_before(ckan_url: str, directory: Path, locations: str) -> Iterator[str]:
    """Passes requests to CKAN, and has other locations. Yields its URL."""
    port = free_port()
    server = _BEFORE_CKAN.format(port=port, ckan=ckan_url, locations=locations)
    with running_nginx(directory, server, port):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def nginx_server(directory: Path, server: str) -> Iterator[str]:
    """A server block in which `@port@` stands for the port. Yields host and port."""
    port = free_port()
    with running_nginx(directory, server.replace("@port@", str(port)), port):
        yield f"127.0.0.1:{port}"


@contextmanager
def running_nginx(directory: Path, server: str, port: int) -> Iterator[None]:
    program = nginx_program()
    directory.mkdir(exist_ok=True)
    user = "user root;" if os.geteuid() == 0 else ""
    config = directory / "nginx.conf"
    config.write_text(_BASE.format(user=user, directory=directory, server=server), encoding="utf-8")
    with (directory / "output.log").open("ab") as log:
        process = start_child(
            [program, "-c", str(config), "-e", str(directory / "error.log")],
            env={"PATH": os.environ["PATH"]},
            cwd=directory,
            output=log,
        )
    try:
        eventually(lambda: process.poll() is not None or _listens(port))
        assert process.poll() is None, (directory / "error.log").read_text() + (directory / "output.log").read_text()
        yield
    finally:
        stop_child(process, ((signal.SIGTERM, 10.0),))


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
