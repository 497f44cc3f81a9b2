"""Transports without a network. Faults are types: each sink fails in one way.

The real transports pass the same tests: `tests/e2e/test_plain_client.py`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import trio
from attrs import define, field

from gateway.endings import Ending
from gateway.errors import TransportClosed
from gateway.protocol import Message


class FakeSource:
    """A client that says what the test says."""

    def __init__(self) -> None:
        self.heard_at: float | None = trio.current_time()
        self._say, self._said = trio.open_memory_channel[str | Exception](100)

    async def say(self, **command: Any) -> None:
        await self.say_text(json.dumps(command))

    async def say_text(self, text: str) -> None:
        await self._say.send(text)

    def fail(self, error: Exception) -> None:
        self._say.send_nowait(error)

    def hang_up(self) -> None:
        self._say.close()

    async def receive(self) -> str:
        try:
            said = await self._said.receive()
        except trio.EndOfChannel:
            raise TransportClosed("hung up") from None
        if isinstance(said, Exception):
            raise said
        self.heard_at = trio.current_time()
        return said


@define
class Sink:
    """A client that hears everything."""

    frames: list[dict[str, Any]] = field(factory=list)
    """All it was told, in order."""
    times: list[float] = field(factory=list)
    pings: int = 0
    ending: Ending | None = None
    aborted: bool = False

    rest: Sequence[Message] = ()

    def send(self, messages: Sequence[Message]) -> bool:
        assert not self.rest, "send without flush"
        assert self.ending is None, "send after close"
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

    async def ping(self) -> None:
        self.pings += 1

    async def close(self, ending: Ending) -> None:
        assert self.ending is None, "closed twice"
        assert not self.aborted, "close after abort"
        self.ending = ending

    def abort(self) -> None:
        self.aborted = True

    def of(self, type_: str) -> list[dict[str, Any]]:
        return [frame for frame in self.frames if frame["type"] == type_]


@define
class PromptSink(Sink):
    """A client that takes each write at once, as a socket does that is not full."""

    def send(self, messages: Sequence[Message]) -> bool:
        Sink.send(self, messages)
        self.write()
        return True


@define
class StuckSink(Sink):
    """A client that stops reading after some writes."""

    writes: int = 1

    async def flush(self) -> None:
        if not self.writes:
            await trio.sleep_forever()
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
    """A client that is gone after some writes."""

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
