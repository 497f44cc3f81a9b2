"""Transports without a network. Faults are types: each sink fails in one way.

The real transports pass the same tests: `tests/e2e/test_plain_client.py`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import trio
from attrs import define, field

from gateway.model.errors import TransportClosed
from gateway.protocol.close_codes import CloseCode
from gateway.protocol.messages import Message


class FakeSource:
    """A client whose messages the test sends."""

    answers_pings = True

    def __init__(self) -> None:
        self.received_at: float | None = trio.current_time()
        self._send, self._sent = trio.open_memory_channel[str | Exception](100)

    async def send(self, **command: Any) -> None:
        await self.send_text(json.dumps(command))

    async def send_text(self, text: str) -> None:
        await self._send.send(text)

    def fail(self, error: Exception) -> None:
        self._send.send_nowait(error)

    def hang_up(self) -> None:
        self._send.close()

    async def receive(self) -> str:
        try:
            command = await self._sent.receive()
        except trio.EndOfChannel:
            raise TransportClosed("hung up") from None
        if isinstance(command, Exception):
            try:
                raise command
            finally:
                del command  # which refers to this frame
        self.received_at = trio.current_time()
        return command


@define
class Sink:
    """A client that receives every frame."""

    frames: list[dict[str, Any]] = field(factory=list)
    """All received frames, in order."""
    times: list[float] = field(factory=list)
    pings: int = 0
    close_code: CloseCode | None = None
    aborted: bool = False

    rest: Sequence[Message] = ()

    def send(self, messages: Sequence[Message]) -> bool:
        assert not self.rest, "send without flush"
        assert self.close_code is None, "send after close"
        assert not self.aborted, "send after abort"
        self.rest = messages
        return False

    async def flush(self) -> None:
        await trio.lowlevel.checkpoint()
        self.write()

    def write(self) -> None:
        messages, self.rest = self.rest, ()
        for message in messages:
            for text in message.texts:
                self.frames.append(json.loads(text))
                self.times.append(trio.current_time())

    def ping(self) -> bool:
        self.pings += 1
        return True

    async def close(self, close_code: CloseCode) -> None:
        assert self.close_code is None, "closed twice"
        assert not self.aborted, "close after abort"
        self.close_code = close_code

    def abort(self) -> None:
        self.aborted = True

    def frames_of(self, type_: str) -> list[dict[str, Any]]:
        return [frame for frame in self.frames if frame["type"] == type_]


@define
class PromptSink(Sink):
    """A client that accepts each write at once, like a socket that is not full."""

    def send(self, messages: Sequence[Message]) -> bool:
        Sink.send(self, messages)
        self.write()
        return True


@define
class StuckSink(Sink):
    """A client that stops reading after some writes."""

    writes: int = 1
    resumed: trio.Event = field(factory=trio.Event)

    def resume(self) -> None:
        """Continues to read."""
        self.resumed.set()

    async def flush(self) -> None:
        if not self.writes:
            await self.resumed.wait()
        self.writes -= 1
        await Sink.flush(self)


@define
class SlowSink(Sink):
    """A client that takes some seconds for each write."""

    takes: float = 1.0

    async def flush(self) -> None:
        await trio.sleep(self.takes)
        await Sink.flush(self)


@define
class GoneSink(Sink):
    """A client that has disconnected after some writes."""

    writes: int = 1

    def send(self, messages: Sequence[Message]) -> bool:
        if not self.writes:
            raise TransportClosed("gone")
        self.writes -= 1
        return Sink.send(self, messages)


@define
class BrokenSink(Sink):
    """A transport with a defect."""

    def send(self, messages: Sequence[Message]) -> bool:
        raise ZeroDivisionError("a defect")
