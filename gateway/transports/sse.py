"""Server-Sent Events: the same frames over a plain HTTP response.

An event's `id` contains `epoch-seq` of every job of the stream, in the order of the request,
joined by commas. When the browser reconnects it sends the last one in `Last-Event-ID`. Only the
last event of a write has an id, because with a hundred jobs an id is longer than most events. A
client that loses its connection during a write receives the events of that write again, and skips
them by their positions.

Jobs that are streamed only because a set contains them are not in the id: a set always begins with
a snapshot. A client that sends an id has received states before, perhaps from a node that was
faster. So the jobs whose positions are not in the id are read from the broker before they are sent.
(WHATWG HTML, §9.2 Server-sent events.)
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import trio

from ..auth.permissions import Permissions
from ..model.errors import TransportClosed
from ..model.limits import Limits
from ..model.state import UNSEEN, Position
from ..node.node import Node
from ..protocol.close_codes import CloseCode
from ..protocol.commands import Mode, WatchSet
from ..protocol.messages import Message
from .asgi_types import Receive, Send

__all__ = ["NO_POSITIONS", "format_event_id", "parse_event_id", "serve_events"]

_ID = re.compile(r"(\d{1,16})-(\d{1,16})")

HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # otherwise nginx buffers events
]


NO_POSITIONS = "-"
"""The id of a stream that has only sets. Any other text that does not have the positions of the
stream's jobs means the same: the client has received states before."""


def format_event_id(positions: Mapping[str, Position]) -> str:
    """Returns the `id` of an event after which the client is at `positions`."""
    return ",".join(f"{epoch}-{seq}" for epoch, seq in positions.values()) or NO_POSITIONS


def parse_event_id(jobs: Sequence[str], text: str | None) -> dict[str, Position | None]:
    """Returns the position of each job; None for all if `text` is not the id of such a stream."""
    parts = [_ID.fullmatch(part) for part in text.split(",")] if text else []
    positions = [Position(int(part[1]), int(part[2])) for part in parts if part is not None]
    if len(positions) != len(jobs) or len(parts) != len(jobs):
        return dict.fromkeys(jobs)
    return {
        job: None if position == UNSEEN else position
        for job, position in zip(jobs, positions, strict=True)
    }


async def serve_events(
    receive: Receive,
    send: Send,
    *,
    node: Node,
    positions: Mapping[str, Position | None],
    sets: Sequence[WatchSet] = (),
    resumed: bool = False,
    mode: Mode,
    permissions: Permissions,
    address: str,
    max_hz: float | None = None,
) -> None:
    """Streams the jobs in `positions`, and the `sets` with the jobs in their views, until the
    client disconnects or the node drains. Progress is sent at most `max_hz` times a second.
    `resumed` is that of `Node.serve`."""
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    sink = _Sink(send, positions, limits=node.limits)
    source = _Source(receive)
    await node.serve(
        source,
        sink,
        positions=positions,
        sets=sets,
        resumed=resumed,
        mode=mode,
        permissions=permissions,
        max_hz=max_hz,
        transport="sse",
        address=address,
    )


class _Source:
    """A client that can send nothing."""

    received_at = None
    answers_pings = False

    def __init__(self, receive: Receive) -> None:
        self._receive = receive

    async def receive(self) -> str:
        while True:
            event = await self._receive()
            if event["type"] == "http.disconnect":
                raise TransportClosed("the client has disconnected")


class _Sink:
    def __init__(
        self, send: Send, positions: Mapping[str, Position | None], *, limits: Limits
    ) -> None:
        self._send = send
        self._positions = {job: position or UNSEEN for job, position in positions.items()}
        self._limits = limits
        self._rest = b""

    def send(self, messages: Sequence[Message]) -> bool:
        texts: list[bytes] = []
        for message in messages:
            texts += message.texts
            if message.job in self._positions:
                self._positions[message.job] = message.position
        *others, last = texts
        event_id = format_event_id(self._positions).encode()
        body = [b"data: %b\n\n" % text for text in others]
        body.append(b"id: %b\ndata: %b\n\n" % (event_id, last))
        self._rest = b"".join(body)
        return False

    async def flush(self) -> None:
        await self._body(self._rest, more=True)
        # Without this checkpoint a fast reader would be sent its whole backlog before other tasks
        # run.
        await trio.lowlevel.checkpoint()

    def ping(self) -> bool:
        """Does nothing: SSE has no ping. The JSON `ping` keeps the response from being idle."""
        return True

    async def close(self, close_code: CloseCode) -> None:
        with trio.move_on_after(self._limits.close_timeout):
            await self._body(b": %b\n\n" % close_code.reason.encode(), more=False)

    def abort(self) -> None:
        """Does nothing: ASGI has no abort. The server ends the response when the app returns."""

    async def _body(self, data: bytes, *, more: bool) -> None:
        try:
            await self._send({"type": "http.response.body", "body": data, "more_body": more})
        except OSError as error:
            raise TransportClosed("the client has disconnected") from error
