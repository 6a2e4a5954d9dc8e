"""A TCP proxy that can be told to misbehave: cut, refuse, freeze, delay, lose notifications of Postgres, lead elsewhere.

It runs in a thread of its own; all methods may be called from any thread and have taken effect when they return.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from psycopg import conninfo

from tests.support.ports import free_port

_CHUNK_BYTES = 256 * 1024
_ORDER_SECONDS = 10
_HEADER_BYTES = 5  # of a message of Postgres: its type and its length, which counts itself but not the type
_NOTIFICATION = b"A"  # PostgreSQL: Message Formats, NotificationResponse
_COMPLETE = b"C"  # CommandComplete


class Proxy:
    """Between the daemons and a server. `dsn` leads a connection string through it."""

    def __init__(self, host: str, port: int) -> None:
        self.port = free_port()
        self.dropped_notifications = 0
        self.bytes_from_server = 0
        self.statements = 0
        """That the server has carried out, BEGIN and COMMIT among them."""
        self._target = host, port
        self._delay_seconds = 0.0
        self._drops_notifications = False
        self._loop = asyncio.new_event_loop()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._server: asyncio.Server | None = None
        self._streams: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._order(self._listen())

    def dsn(self, dsn: str) -> str:
        """The same server by way of the proxy. In the clear: it reads messages."""
        there = {"host": "127.0.0.1", "port": self.port, "sslmode": "disable", "gssencmode": "disable"}
        return conninfo.make_conninfo(dsn, **there)

    def lead_to(self, host: str, port: int) -> None:
        """Where new connections go from now on: after a failover."""
        self._call(lambda: setattr(self, "_target", (host, port)))

    def cut(self) -> None:
        """End all connections without a word. New ones are served."""
        self._call(self._abort_all)

    def refuse(self) -> None:
        """End all connections and listen no more, until `restore`."""
        self._order(self._close())

    def freeze(self) -> None:
        """Accept connections and bytes, and forward nothing, until `restore`."""
        self._call(self._flowing.clear)

    def delay(self, seconds: float) -> None:
        """Keep all that is read for so long, both ways, until `restore`."""
        self._call(lambda: setattr(self, "_delay_seconds", seconds))

    def drop_notifications(self) -> None:
        """Forward all of Postgres' messages but notifications, until `restore`."""
        self._call(lambda: setattr(self, "_drops_notifications", True))

    def restore(self) -> None:
        """Behave again. What was frozen is delivered."""
        self._order(self._restore())

    def close(self) -> None:
        self._order(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=_CHUNK_BYTES)

    async def _restore(self) -> None:
        self._delay_seconds = 0.0
        self._drops_notifications = False
        self._flowing.set()
        await self._listen()

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        self._abort_all()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _abort_all(self) -> None:
        for stream in list(self._streams):
            stream.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._streams.add(writer)
        upstream: asyncio.StreamWriter | None = None
        try:
            from_server, upstream = await asyncio.open_connection(*self._target, limit=_CHUNK_BYTES)
            self._streams.add(upstream)
            await asyncio.wait(
                [
                    asyncio.create_task(self._pump(reader, upstream, lambda data: data)),
                    asyncio.create_task(self._pump(from_server, writer, _Messages(self).pass_on)),
                ],
                return_when=asyncio.FIRST_COMPLETED,
            )
        except (OSError, asyncio.CancelledError):
            return  # the server is down, or we are closing: the client finds its connection gone
        finally:
            for stream in filter(None, (writer, upstream)):
                self._streams.discard(stream)
                stream.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, filtered: Callable[[bytes], bytes]
    ) -> None:
        with suppress(OSError):  # either side ended: so does the connection
            while data := await reader.read(_CHUNK_BYTES):
                if self._delay_seconds:
                    await asyncio.sleep(self._delay_seconds)
                await self._flowing.wait()
                writer.write(filtered(data))
                await writer.drain()
            await writer.drain()

    def _call(self, change: Callable[[], object]) -> None:
        async def order() -> None:
            change()

        self._order(order())

    def _order(self, order: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(order, self._loop).result(_ORDER_SECONDS)


class _Messages:
    """What a Postgres server sends on one connection, message by message, so that notifications can be taken out."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._kept = b""
        """The beginning of a header."""
        self._left = 0
        """Bytes of the message under way."""
        self._drop = False

    def pass_on(self, data: bytes) -> bytes:
        passed = []
        self._proxy.bytes_from_server += len(data)
        data = self._kept + data
        self._kept = b""
        at = 0
        while at < len(data):
            if not self._left:
                if len(data) - at < _HEADER_BYTES:
                    self._kept = data[at:]
                    break
                self._left = 1 + int.from_bytes(data[at + 1 : at + _HEADER_BYTES], "big")
                self._drop = self._proxy._drops_notifications and data[at : at + 1] == _NOTIFICATION
                self._proxy.dropped_notifications += self._drop
                self._proxy.statements += data[at : at + 1] == _COMPLETE
            piece = data[at : at + self._left]
            at += len(piece)
            self._left -= len(piece)
            if not self._drop:
                passed.append(piece)
        return b"".join(passed)


@contextmanager
def proxy_to(dsn: str) -> Iterator[Proxy]:
    """A proxy before the Postgres of a connection string."""
    parts = conninfo.conninfo_to_dict(dsn)
    proxy = Proxy(str(parts["host"]), int(parts.get("port") or 5432))
    try:
        yield proxy
    finally:
        proxy.close()
