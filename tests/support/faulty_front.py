"""An HTTP server before the S3 service that passes everything on, except what a test tells it to answer or to lose."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]

    @property
    def operation(self) -> str:
        """The S3 operation, as far as the tests tell them apart."""
        match self.method:
            case "POST":
                return "create" if "uploads" in self.query else "complete"
            case "PUT" if "partNumber" in self.query:
                return "copy" if "x-amz-copy-source" in self.headers else "part"
            case "DELETE" if "uploadId" in self.query:
                return "abort"
            case "GET" if self.query.keys() & {"uploads", "list-type"}:
                return "list"
        return self.method.lower()


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes = b""
    content_type: str = "application/xml"
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    """The headers promise more than the body holds, and the connection ends."""


class Lost:
    """The request is carried out, and the connection closed without an answer."""


class Truncated:
    """The request is carried out, and half of the answer's body arrives before the connection ends."""


class HalfSent:
    """Half of the request's body gets through before both connections end."""


@dataclass(frozen=True)
class Frozen:
    """Nothing gets through or is answered until somebody thaws it; then it is."""

    thawed: threading.Event = field(default_factory=threading.Event)


Reply = Answer | Lost | Truncated | HalfSent | Frozen

# Called for each request, in the server's threads: None passes it on.
Fault = Callable[[Request], "Reply | None"]


def error(status: int, code: str) -> Answer:
    """As S3 answers it. With status 200: what completing an upload may end with (S3 API, CompleteMultipartUpload)."""
    return Answer(status, f"<Error><Code>{code}</Code><Message>{code}, on purpose</Message></Error>".encode())


INTERNAL_ERROR = error(500, "InternalError")
SLOW_DOWN = error(503, "SlowDown")
FORBIDDEN = error(403, "AccessDenied")
COMPLETED_WITH_ERROR = error(200, "InternalError")


class Front:
    """What came by, and the fault in force."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.endpoint = ""
        self.fault: Fault = lambda request: None
        self.requests: list[Request] = []

    def operations(self) -> list[str]:
        return [request.operation for request in self.requests]

    def fail(self, operation: str, *answers: Reply) -> None:
        """These answers, one after the other, to requests of the operation; then they pass."""
        left = list(answers)

        def fault(request: Request) -> Reply | None:
            return left.pop(0) if left and request.operation == operation else None

        self.fault = fault


def send_half(target: str, method: str, path: str, body: bytes, headers: dict[str, str]) -> None:
    upstream = http.client.HTTPConnection(target, timeout=60)
    try:
        upstream.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            upstream.putheader(name, value)
        upstream.endheaders(body[: len(body) // 2])
    finally:
        upstream.close()


@contextlib.contextmanager
def front(target: str, tls: ssl.SSLContext | None = None) -> Iterator[Front]:
    """A front before `target` (host:port, http); itself https with `tls`."""
    state = Front(target)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_request(self) -> None:
            url = urlsplit(self.path)
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.command, url.path, parse_qs(url.query, keep_blank_values=True), headers)
            body = self.rfile.read(int(headers.get("content-length", "0")))
            state.requests.append(request)
            answer = state.fault(request)
            if isinstance(answer, Frozen):
                answer.thawed.wait()
            if isinstance(answer, HalfSent):
                self.close_connection = True
                send_half(state.target, self.command, self.path, body, headers)
                return
            if isinstance(answer, Answer):
                self.close_connection = answer.cut
                self.answer(answer.status, {"Content-Type": answer.content_type, **answer.headers}, answer.body)
                return
            upstream = http.client.HTTPConnection(state.target, timeout=60)
            try:
                # The Host header is part of the signature, so it stays ours.
                upstream.request(self.command, self.path, body, headers)
                response = upstream.getresponse()
                data = response.read()
            finally:
                upstream.close()
            if isinstance(answer, Lost):
                self.close_connection = True
                return
            if isinstance(answer, Truncated):
                self.close_connection = True
                self.answer(response.status, dict(response.getheaders()), data, data[: len(data) // 2])
                return
            self.answer(response.status, dict(response.getheaders()), data)

        def answer(self, status: int, headers: dict[str, str], body: bytes, sent: bytes | None = None) -> None:
            """`sent`: what of the body really goes out."""
            self.send_response_only(status)
            lengths = {"Content-Length": str(len(body))}
            for name, value in {**lengths, **headers}.items():
                if name.lower() not in {"transfer-encoding", "connection"}:
                    self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body if sent is None else sent)

        def handle(self) -> None:
            # A client that does not trust the certificate ends the handshake, here, in the connection's own thread.
            with contextlib.suppress(ssl.SSLError, ConnectionError):
                super().handle()

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_request  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    state.endpoint = f"127.0.0.1:{server.server_address[1]}"
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
