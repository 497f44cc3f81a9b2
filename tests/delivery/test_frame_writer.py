"""The transport's own ping is sent once, after what is written with it, whatever that is."""

from __future__ import annotations

import pytest
from attrs import define, field
from msgspec.structs import replace

from gateway import Limits
from gateway.delivery.frame_writer import WRITE_SIZE, FrameWriter
from gateway.delivery.hub import Hub
from gateway.delivery.repairs import Repairs
from gateway.model.state import UNSEEN
from gateway.observability.counters import Counters
from gateway.protocol.messages import encode
from tests.events import event

from ..fakes import Sink
from .subscribers import IgnoringOutbox


@define
class RecordingSink(Sink):
    """Accepts each write at once, and records the order of frames and pings."""

    order: list[str] = field(factory=list)
    full: bool = False
    """Whether each write must be finished."""

    def write(self) -> None:
        before = len(self.frames)
        Sink.write(self)
        self.order += [frame["type"] for frame in self.frames[before:]]

    def send(self, *messages: object) -> bool:
        Sink.send(self, *messages)  # type: ignore[arg-type]  # a fake
        if not self.full:
            self.write()
        return not self.full

    def ping(self) -> bool:
        self.order.append("PING")
        return True


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("replies", [0, 1])
@pytest.mark.parametrize(
    ("jobs", "size", "expected"),
    [
        (0, 1, []),
        (1, 0, []),  # it is due, but its client has its state already
        (1, 1, ["progress"]),
        (1, 2 * WRITE_SIZE, ["progress"]),
        (3, 1, ["progress"] * 3),
        (3, WRITE_SIZE, ["progress"] * 3),
    ],
)
async def test_a_ping_comes_once_after_everything_else(
    jobs: int, size: int, expected: list[str], replies: int, full: bool
) -> None:
    hub, sink = Hub(Limits()), RecordingSink(full=full)
    writer = FrameWriter(sink, limits=Limits(), counters=Counters())
    pending = []
    for number in range(jobs):
        name = f"j{number}"
        pending.append(hub.subscribe(name, IgnoringOutbox()))
        new_event = event(name, 1)
        new_event = replace(new_event, state=replace(new_event.state, message="x" * size))
        Repairs(hub).apply_loads({name: UNSEEN}, {name: new_event})
        if not size:
            pending[-1].next_message()
    if not writer.begin([encode("pong")] * replies, pending, pending_since=0.0, ping=True):
        await writer.finish()
    assert sink.order == ["pong"] * replies + expected + ["PING"]
    pending = [hub.subscribe("later", IgnoringOutbox())]
    Repairs(hub).apply_loads({"later": UNSEEN}, {"later": event("later", 1)})
    if not writer.begin((), pending, pending_since=0.0):
        await writer.finish()
    assert sink.order[-2:] == ["PING", "progress"]
