"""The fan-out writes to each sink in order, exactly once, and never after its end, whatever the
sockets accept, and whenever connections close."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any

import trio
import trio.testing
from attrs import define, field
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from gateway import Limits, MemoryBroker, Node
from gateway.delivery.fan_out import MESSAGES_PER_SLICE, FanOut
from gateway.model.state import Update
from gateway.protocol import close_codes
from gateway.protocol.messages import Message

from ..fakes import FakeSource, PromptSink, Sink, StuckSink


@define
class HalfSink(Sink):
    """A client whose socket takes a part of some writes: the rest takes its time."""

    random: Random = field(factory=lambda: Random(0))
    writes: int = 0
    flushing: bool = False

    def send(self, messages: Sequence[Message]) -> bool:
        assert not self.flushing, "send while another task flushes"
        Sink.send(self, messages)
        self.writes += 1
        if self.random.random() < 0.5:
            self.write()
            return True
        return False

    async def flush(self) -> None:
        self.flushing = True
        await trio.sleep(self.random.random())
        self.flushing = False
        self.write()


def frames_of(sink: Sink, job: str) -> list[dict[str, Any]]:
    return [frame for frame in sink.frames_of("progress") if frame["job"] == job]


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    seed=st.integers(0, 2**32),
    clients=st.lists(
        st.tuples(
            st.sampled_from(["half", "prompt", "slow"]),
            st.sampled_from(["latest", "every"]),
            st.sampled_from([None, 1.0, 5.0]),
        ),
        min_size=1,
        max_size=4,
    ),
    actions=st.lists(
        st.one_of(
            st.tuples(st.just("publish"), st.sampled_from("abc")),
            st.tuples(st.just("sleep"), st.floats(0, 0.7)),
            st.tuples(st.just("end"), st.integers(0, 3)),
            st.tuples(st.just("ping"), st.integers(0, 3)),
            st.tuples(st.just("toggle"), st.integers(0, 3)),
        ),
        max_size=60,
    ),
)
def test_each_client_gets_all_events_once_in_order(
    seed: int, clients: list[tuple[str, str, float | None]], actions: list[tuple[str, Any]]
) -> None:
    """Fast, slow and half-full sockets, in both modes, with and without a rate limit, some of which
    close in between: each gets contiguous positions, each at most once, up to the newest."""

    async def main() -> None:
        random = Random(seed)
        limits = Limits(history=1000)
        broker = MemoryBroker(limits, clock=trio.current_time, monotonic=trio.current_time)
        node = Node(broker, limits=limits)
        newest = Counter[str]()
        async with trio.open_nursery() as nursery:
            await nursery.start(node.run)
            for job in "abc":
                await broker.publish(job, Update(percent=0))
                newest[job] = 1
            served: list[tuple[FakeSource, Sink, trio.Event]] = []

            async def serve(source: FakeSource, sink: Sink, ended: trio.Event) -> None:
                await node.serve(source, sink)
                ended.set()

            for kind, mode, max_hz in clients:
                source, ended = FakeSource(), trio.Event()
                sink: Sink = PromptSink() if kind == "prompt" else HalfSink(random=random)
                if kind == "slow":
                    sink = Sink()
                nursery.start_soon(serve, source, sink, ended)
                if max_hz:
                    await source.send(type="hello", max_hz=max_hz)
                await source.send(type="subscribe", jobs=list("abc"), mode=mode)
                served.append((source, sink, ended))
            for action, value in actions:
                if action == "publish":
                    await broker.publish(value, Update(done=newest[value]))
                    newest[value] += 1
                elif action == "sleep":
                    await trio.sleep(value)
                elif value < len(served):
                    source, sink, ended = served[value]
                    if ended.is_set() or sink.close_code:
                        continue
                    if action == "end":
                        source.hang_up()
                        await ended.wait()
                    elif action == "ping":
                        await source.send(type="ping")
                    else:
                        await source.send(type="unsubscribe", jobs=["a"])
                        await source.send(type="subscribe", jobs=["a"], mode=clients[value][1])
            await trio.sleep(10)
            for (_, sink, ended), (_, mode, _) in zip(served, clients, strict=True):
                for job in "abc":
                    at = None
                    for frame in frames_of(sink, job):
                        if frame["prev"] is not None:
                            assert at is not None
                            assert frame["prev"] == at
                            if mode == "every":
                                assert frame["seq"] == at + 1
                        at = frame["seq"]
                    if not ended.is_set():
                        assert at == newest[job]
                if ended.is_set():
                    assert sink.close_code is close_codes.NORMAL
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))


async def test_a_full_socket_is_left_to_its_writer_and_does_not_delay_others(
    autojump_clock: MockClock,
) -> None:
    limits = Limits()
    broker = MemoryBroker(limits, clock=trio.current_time, monotonic=trio.current_time)
    node = Node(broker, limits=limits)
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        stuck, prompt = StuckSink(writes=1), PromptSink()
        for sink in (stuck, prompt):
            source = FakeSource()
            nursery.start_soon(node.serve, source, sink)
            await source.send(type="subscribe", jobs=["a"])
        await wait_all_tasks_blocked()
        for percent in range(50):
            await broker.publish("a", Update(percent=percent))
            await wait_all_tasks_blocked()
        assert trio.current_time() == 0
        assert [frame["seq"] for frame in frames_of(prompt, "a")] == list(range(51))
        await trio.sleep(limits.write_timeout + 1)
        assert stuck.aborted
        nursery.cancel_scope.cancel()


async def test_a_fan_out_pass_yields_between_slices() -> None:
    """Other tasks run while 1,000 clients are written to; new events wait for the next pass."""

    @define(eq=False)
    class Connection:
        written_at: list[int] = field(factory=list)

        def write(self) -> int:
            self.written_at.append(steps)
            if len(self.written_at) == 1:
                fan_out.add(self)
            return 1

    steps = 0

    async def other() -> None:
        nonlocal steps
        while True:
            await trio.lowlevel.checkpoint()
            steps += 1

    fan_out = FanOut()
    connections = [Connection() for _ in range(1_000)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        for connection in connections:
            fan_out.add(connection)
        nursery.start_soon(fan_out.run)
        await fan_out.wait_until_written()
        assert all(c.written_at for c in connections)
        await fan_out.wait_until_written()
        nursery.cancel_scope.cancel()
    assert all(len(c.written_at) == 2 for c in connections)
    slices = Counter(at for c in connections for at in c.written_at)
    assert max(slices.values()) <= 2 * MESSAGES_PER_SLICE
    assert len(slices) >= len(connections) // MESSAGES_PER_SLICE


async def test_waiting_for_an_empty_fan_out_returns_immediately() -> None:
    with trio.fail_after(1):
        await FanOut().wait_until_written()
