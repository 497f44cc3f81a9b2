"""One HTTP request on the gateway's own port, and its response: h11 on the gateway's stream.

A request is read completely before it is handled: no endpoint takes more than
`limits.max_body` (for a batch of updates `max_batch_body`), so these limits of size and time
hold for every method and path.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from urllib.parse import unquote, urlsplit

import h11
import trio

from ..model.limits import Limits
from .asgi_types import Message, Scope
from .request_head import BadRequest
from .stream import ClientStream

__all__ = ["Exchange", "read_request"]

Headers = Sequence[tuple[bytes, bytes]]

_CLOSE = b"connection: close\r\n"
_BODYLESS = {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}


SMALL_CHUNK = 64
SMALL_CHUNKS = 100
"""A body may have this many chunks that are smaller than `SMALL_CHUNK` on average: each chunk costs
0.1 ms, so 64 KiB in chunks of one byte would take seconds."""
CHUNKS_PER_PASS = 20
"""Chunks that are parsed in one pass of the scheduler, so that other tasks run in between."""
BATCH_PATH = b"/api/jobs"
"""The path of batches of updates, whose bodies may be larger."""


async def read_request(
    stream: ClientStream, head: bytes, *, limits: Limits, client: str
) -> Exchange:
    """Reads the request that begins with `head`. Bytes after the request stay in the stream.

    Raises:
        BadRequest: It is malformed, or its body is too large or too slow.
        trio.BrokenResourceError: The connection was reset.
    """
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.max_head)
    try:
        connection.receive_data(head + stream.take_unread())
        request = connection.next_event()
        if not isinstance(request, h11.Request):  # h11 needs more for a complete head
            raise BadRequest(400)
        bytes_left = limits.max_batch_body if request.target == BATCH_PATH else limits.max_body
        body = await _read_body(stream, connection, limits, bytes_left=bytes_left)
    except h11.RemoteProtocolError as error:
        raise BadRequest(error.error_status_hint) from None
    trailing, _ = connection.trailing_data
    if trailing:
        stream.unread(trailing)
    return Exchange(stream, connection, request, body, client=client)


async def _read_body(
    stream: ClientStream, connection: h11.Connection, limits: Limits, *, bytes_left: int
) -> bytes:
    body: list[bytes] = []
    max_bytes = bytes_left
    deadline = trio.current_time() + limits.body_timeout
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Data):
            bytes_left -= len(event.data)
            if bytes_left < 0:
                raise BadRequest(413, f"The body is over {max_bytes} bytes.")
            body.append(bytes(event.data))
            if len(body) > SMALL_CHUNKS + (max_bytes - bytes_left) / SMALL_CHUNK:
                raise BadRequest(400, f"The body is in chunks of under {SMALL_CHUNK} bytes.")
            if len(body) % CHUNKS_PER_PASS == 0:
                await trio.lowlevel.checkpoint()
        elif isinstance(event, h11.EndOfMessage):
            return b"".join(body)
        else:  # NEED_DATA
            await _receive_more(stream, connection, limits, deadline)


async def _receive_more(
    stream: ClientStream, connection: h11.Connection, limits: Limits, deadline: float
) -> None:
    # Data that is already there never waits, so without this it would never reach the deadline.
    await trio.lowlevel.checkpoint()
    with trio.move_on_at(deadline):
        if connection.they_are_waiting_for_100_continue:
            continue_ = h11.InformationalResponse(status_code=100, headers=[])
            await stream.send_all(connection.send(continue_) or b"")
        # b"" is the end of the input: h11 raises an error that says what is missing.
        connection.receive_data(await stream.receive_some())
        return
    raise BadRequest(408, f"The body took over {limits.body_timeout:g} s.")


class Exchange:
    """A request and its response; it is also the ASGI interface for them."""

    def __init__(
        self,
        stream: ClientStream,
        connection: h11.Connection,
        request: h11.Request,
        body: bytes,
        *,
        client: str,
    ) -> None:
        self.method = request.method
        self.target = request.target
        self.headers: Headers = list(request.headers)
        """Names in lower case."""
        self.body = body
        self.keep_alive = request.http_version == b"1.1" and not any(
            name == b"connection" and b"close" in text.lower() for name, text in self.headers
        )
        """Whether the client wants to keep the connection (RFC 9112 §9.3; never with HTTP/1.0)."""
        self.close_after_response = False
        """Whether to close the connection afterwards, even if the client wants to keep it."""
        self.sent = 0
        """Bytes of the response so far."""
        self.client_disconnected = False
        self.reusable = False
        """Whether another request may follow on the connection after the response."""
        self.client = client
        self._stream = stream
        self._connection = connection
        self._body_received = False
        self._answered = trio.Event()
        self._status = 500
        self._head: Headers = ()

    def __repr__(self) -> str:
        return f"<Exchange {self.method.decode()} {self.target.decode('latin-1')}>"

    @property
    def started(self) -> bool:
        """Whether part of the response was sent."""
        return self._connection.our_state is not h11.SEND_RESPONSE

    @property
    def answered(self) -> bool:
        """Whether the response is complete."""
        return self._answered.is_set()

    def scope(self) -> Scope:
        """Returns the request as an ASGI scope. Raises `BadRequest` if its target is not in origin
        form."""
        target = self.target.decode("latin-1")
        if not target.startswith("/"):
            parts = urlsplit(target)  # RFC 9112 §3.2.2: servers must accept the absolute form
            if parts.scheme not in ("http", "https") and target != "*":
                raise BadRequest(400)
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        path, _, query = target.partition("?")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": self.method.decode(),
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode("latin-1"),
            "query_string": query.encode("latin-1"),
            "root_path": "",
            "headers": self.headers,
            "client": (self.client, 0),
            "server": None,
        }

    async def receive(self) -> Message:
        """ASGI's `receive`: the body, then a disconnect when the client disconnects or the response
        ends."""
        if not self._body_received:
            self._body_received = True
            return {"type": "http.request", "body": self.body, "more_body": False}
        try:
            if not self.answered:
                data = await self._stream.receive_some()
                if data:  # the next request, which is handled later
                    self._stream.unread(data)
                    await self._answered.wait()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.client_disconnected = True
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """ASGI's `send`. Raises `OSError` if the client has disconnected."""
        if message["type"] == "http.response.start":
            self._status, self._head = message["status"], message.get("headers", ())
        elif message["type"] == "http.response.body":
            await self._send_body(message.get("body", b""), more=message.get("more_body", False))

    async def answer_ok(self, head: bytes, body: bytes) -> None:
        """Sends a complete 200 response. `head` is its constant part: from the status line to the
        last line that depends neither on the request nor on `body`.

        This bypasses h11, which would take a fifth of the time of a whole publish to write constant
        bytes. Raises `OSError` if the client has disconnected.
        """
        keep = self.keep_alive and not self.close_after_response
        await self._write(
            b"%bdate: %b\r\ncontent-length: %d\r\n%b\r\n%b"
            % (head, _date(int(time.time())), len(body), b"" if keep else _CLOSE, body)
        )
        self._answered.set()
        self.reusable = keep

    async def _send_body(self, body: bytes, *, more: bool) -> None:
        data = b"" if self.started else self._send_head()
        if body and self.method != b"HEAD" and self._status not in _BODYLESS:
            data += self._connection.send(h11.Data(data=body)) or b""
        if not more:
            data += self._connection.send(h11.EndOfMessage()) or b""
        if data:
            await self._write(data)
        if not more:
            self._answered.set()
            self.reusable = self._connection.our_state is h11.DONE

    async def _write(self, data: bytes) -> None:
        self.sent += len(data)
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self.client_disconnected = True
            raise ClientDisconnected(str(error)) from error

    def _send_head(self) -> bytes:
        headers = [*self._head, (b"date", _date(int(time.time())))]
        if self.close_after_response:
            headers.append((b"connection", b"close"))
        return self._connection.send(h11.Response(status_code=self._status, headers=headers)) or b""


class ClientDisconnected(OSError):
    """The client has disconnected. Raised to ASGI applications (specification 2.4, `send`)."""


@lru_cache(maxsize=1)
def _date(now: int) -> bytes:
    return formatdate(now, usegmt=True).encode()
