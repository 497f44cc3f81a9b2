"""One client against a node, on a mock clock: no network, no wall time.

`quiet()` lets every task run until all wait; virtual time moves only by `trio.sleep`.
(pytest-trio takes the clock from a test's own arguments, so each test names it.)
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import trio
import trio.testing
from attrs import evolve
from msgspec import Raw
from trio.testing import MockClock

from gateway import Limits, MemoryBroker, Node, endings
from gateway.connection import WRITE_SIZE, ConnectionEnds
from gateway.endings import Ending
from gateway.errors import BrokerUnavailable
from gateway.job import Event, Position, Update
from gateway.protocol import Message
from gateway.tally import TIMED

from .fakes import BrokenSink, FakeSource, GoneSink, Sink, SlowSink, StuckSink

quiet = trio.testing.wait_all_tasks_blocked


class Client:
    """A connection to the node under test."""

    def __init__(self, sink: Sink) -> None:
        self.source = FakeSource()
        self.sink = sink
        self.ended = trio.Event()
        self.ending: Ending | None = None

    async def run(self, node: Node) -> None:
        self.ending = await node.serve(self.source, self.sink)
        self.ended.set()

    async def subscribe(self, *jobs: str, **more: Any) -> None:
        await self.source.say(type="subscribe", jobs=jobs, **more)
        await quiet()

    @property
    def seen(self) -> list[tuple[int | None, int]]:
        return [(frame["prev"], frame["seq"]) for frame in self.sink.of("progress")]


class World:
    """A running node, its broker, and the clients a test opens."""

    def __init__(self, nursery: trio.Nursery, limits: Limits) -> None:
        self.nursery = nursery
        self.broker = MemoryBroker(limits, clock=trio.current_time, monotonic=trio.current_time)
        self.node = Node(self.broker, limits=limits)

    async def publish(self, job: str, **fields: Any) -> Position:
        return (await self.broker.publish(job, Update(**fields))).position

    async def connect(self, sink: Sink | None = None) -> Client:
        client = Client(sink or Sink())
        self.nursery.start_soon(client.run, self.node)
        await quiet()
        return client


@pytest.fixture
def limits() -> Limits:
    return Limits(max_replies=4, ring_bytes=2000, history=20)


@pytest.fixture
async def world(limits: Limits) -> AsyncIterator[World]:
    async with trio.open_nursery() as nursery:
        world = World(nursery, limits)
        await nursery.start(world.node.run)
        yield world
        nursery.cancel_scope.cancel()


async def test_welcome_is_first_and_commands_are_answered(
    autojump_clock: MockClock, world: World
) -> None:
    client = await world.connect()
    await client.source.say(type="ping")
    await client.source.say(type="sync_subscriptions", id=1, jobs=["a", "b", "a b"])
    await client.source.say(type="sync_subscriptions", id=2, jobs=["b", "a", "b"])
    await quiet()
    await client.source.say(type="unsubscribe", id=3, jobs=["a", "never"])
    await client.source.say(type="sync_subscriptions", id=4, jobs=["c"])
    await quiet()
    assert client.sink.frames[0]["type"] == "welcome"
    assert client.sink.of("pong") == [{"type": "pong"}]
    answers = [
        (f["id"], f["added"], f["removed"], f["unchanged"], f["denied"])
        for f in client.sink.of("subscriptions")
    ]
    assert answers == [
        (1, ["a", "b"], [], 0, {"a b": "invalid_job"}),
        (2, [], [], 2, {}),
        (3, [], ["a"], 0, {}),
        (4, ["c"], ["b"], 0, {}),
    ]
    assert [f["job"] for f in client.sink.of("progress")] == ["a", "b", "c"]


async def test_snapshot_then_contiguous_frames_to_the_end(
    autojump_clock: MockClock, world: World
) -> None:
    await world.publish("a", percent=1)
    client = await world.connect()
    await client.subscribe("a")
    assert client.seen == [(None, 1)]
    for percent in range(2, 500):
        await world.publish("a", percent=percent / 5)
    await world.publish("a", status="succeeded")
    await quiet()
    for (_, seq), (prev, _) in zip(client.seen, client.seen[1:], strict=False):
        assert prev == seq
    assert client.sink.of("progress")[-1]["state"]["status"] == "succeeded"


async def test_a_lone_update_needs_no_second_to_be_seen(
    autojump_clock: MockClock, world: World
) -> None:
    client = await world.connect()
    await client.subscribe("a")
    await world.publish("a", percent=1)
    await quiet()
    assert client.seen == [(None, 0), (None, 1)]


async def test_every_has_each_event_and_says_what_is_gone(
    autojump_clock: MockClock, world: World
) -> None:
    await world.publish("a", percent=1)
    sink = Sink()
    client = await world.connect(sink)
    await client.subscribe("a", mode="every")
    for percent in range(2, 12):
        await world.publish("a", percent=percent, message="x" * 900)
    await quiet()
    # The ring holds two of these: the rest came from the broker's history.
    assert client.seen == [(None, 1), *((n - 1, n) for n in range(2, 12))]
    assert sink.of("gap") == []

    hello = {"a": [sink.of("progress")[0]["epoch"], 3]}
    for percent in range(12, 60):
        await world.publish("a", percent=percent)
    late = await world.connect()
    await late.source.say(type="hello", positions=hello)
    await late.subscribe("a", mode="every")
    assert [(g["from"], g["to"]) for g in late.sink.of("gap")] == [(4, 58)]
    assert late.seen[-1][1] == 59


async def test_a_broker_that_does_not_answer_makes_nobody_deaf(
    autojump_clock: MockClock, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits for a past that does not come is answered, pinged, and told what is new."""
    epoch, _ = await world.publish("a", percent=1)
    for percent in range(2, 12):
        await world.publish("a", percent=percent, message="x" * 900)
    client = await world.connect()

    async def hang(*args: Any, **more: Any) -> list[Event]:
        await trio.sleep(7)
        raise BrokerUnavailable("at last")

    history = world.broker.history
    monkeypatch.setattr(world.broker, "history", hang)
    await client.source.say(type="hello", positions={"a": [epoch, 1]})
    await client.source.say(type="subscribe", jobs=["a", "b"], mode="every")
    for _ in range(10):
        await client.source.say(type="ping")
        await world.publish("a", percent=12)
        await trio.sleep(4.9)
    assert len(client.sink.of("subscriptions")) == 1
    assert len(client.sink.of("pong")) == 10
    assert not client.ended.is_set()
    assert [frame["job"] for frame in client.sink.of("progress")] == ["b"]
    monkeypatch.setattr(world.broker, "history", history)
    await world.publish("a", percent=13)
    await trio.sleep(7 + world.node.limits.check_every * 1.2)
    assert client.seen == [(None, 0), *((n - 1, n) for n in range(2, 14))]


async def test_no_more_is_held_than_one_write(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """What a client that takes nothing is due stays in the topics, shared; and what it gets
    later is what is newest then, unless it has lost interest."""
    world = World(nursery, Limits())
    await nursery.start(world.node.run)
    jobs = [f"job:{number}" for number in range(100)]
    for job in jobs:
        await world.publish(job, data=Raw(b'"%b"' % (b"x" * 8_000)))
    client = await world.connect(SlowSink(takes=1.0))
    await client.subscribe(*jobs)
    await trio.sleep(1.5)
    for job in jobs:
        await world.publish(job, percent=50, data=Raw(b"1"))
    await client.source.say(type="unsubscribe", jobs=[jobs[-1]])
    await trio.sleep(15)
    told = client.sink.of("progress")
    behind = WRITE_SIZE // 8_000
    assert len(told) <= len(jobs) + 2 * behind + 2
    assert [frame["seq"] for frame in told][-behind:] == [2] * behind
    assert jobs[-1] not in {frame["job"] for frame in told}


async def test_positions_of_hello_are_continued_once(
    autojump_clock: MockClock, world: World
) -> None:
    epoch, _ = await world.publish("a", percent=1)
    await world.publish("a", percent=2)
    await world.publish("b", percent=1)
    client = await world.connect()
    await client.source.say(
        type="hello", positions={"a": [epoch, 1], "b": [epoch, 1], "c": [None, 0], "d": [1, 1]}
    )
    b_epoch = (await world.broker.read(["b"]))["b"].position.epoch
    await client.source.say(type="hello", positions={"a": [epoch, 1], "b": [b_epoch, 1]})
    await client.subscribe("a", "b")
    assert client.seen == [(1, 2)]  # b is up to date: nothing
    await client.source.say(type="unsubscribe", jobs=["a"])
    await client.subscribe("a")
    assert client.seen == [(1, 2), (None, 2)]


@pytest.mark.parametrize("limits", [Limits(max_topics=3)])  # with the canary's
async def test_a_node_that_watches_enough_takes_no_other_jobs(
    autojump_clock: MockClock, world: World
) -> None:
    first, second = await world.connect(), await world.connect()
    await first.subscribe("a", "b", "c")
    assert first.sink.of("subscriptions")[0]["denied"] == {"c": "too_many_jobs"}
    await second.subscribe("a", "d")
    answer = second.sink.of("subscriptions")[0]
    assert (answer["added"], answer["denied"]) == (["a"], {"d": "too_many_jobs"})

    stream = Sink()
    ending = await world.node.serve(FakeSource(), stream, positions={"a": None, "d": None})
    assert ending is stream.ending is endings.FULL
    await first.source.say(type="unsubscribe", jobs=["b"])
    await second.subscribe("d")
    assert second.sink.of("subscriptions")[1]["added"] == ["d"]


async def test_a_second_connection_is_independent(autojump_clock: MockClock, world: World) -> None:
    first, second = await world.connect(), await world.connect()
    await first.subscribe("a")
    await second.subscribe("a")
    first.source.hang_up()
    await first.ended.wait()
    await world.publish("a", percent=1)
    await quiet()
    assert second.seen == [(None, 0), (None, 1)]
    assert world.node.statistics().connections == 1


async def test_nothing_after_unsubscribe(autojump_clock: MockClock, world: World) -> None:
    client = await world.connect()
    await client.subscribe("a")
    await client.source.say(type="unsubscribe", jobs=["a"])
    await world.publish("a", percent=1)
    await quiet()
    assert client.seen == [(None, 0)]


@pytest.mark.parametrize(
    ("text", "code", "named"),
    [
        ("{", "invalid_json", "JSON"),
        ('{"type":"sing"}', "unknown_type", "sing"),
        ('{"type":"subscribe","jobs":7}', "invalid_command", "jobs"),
        ('{"type":"hello","max_hz":0}', "invalid_command", "max_hz"),
        ('{"type":"hello","max_hz":5e-324}', "invalid_command", "max_hz"),
    ],
)
async def test_bad_input_is_named_and_costs_nothing(
    autojump_clock: MockClock, world: World, text: str, code: str, named: str
) -> None:
    client = await world.connect()
    await client.source.say_text(text)
    await client.source.say(type="ping")
    await quiet()
    error, pong = client.sink.frames[1:]
    assert (error["type"], error["code"], pong["type"]) == ("error", code, "pong")
    assert named in error["message"]


async def test_jobs_per_connection_are_bounded(
    autojump_clock: MockClock, world: World, limits: Limits
) -> None:
    world.node.limits = evolve(limits, max_jobs_per_connection=2)
    client = await world.connect()
    await client.subscribe("a", "b", "c")
    assert client.sink.of("subscriptions")[0]["denied"] == {"c": "too_many_jobs"}


class TestHeartbeat:
    async def test_a_silent_client_is_pinged_and_then_ended(
        self, autojump_clock: MockClock, world: World
    ) -> None:
        start = trio.current_time()
        client = await world.connect()
        await client.ended.wait()
        assert trio.current_time() - start == 35
        assert client.ending is endings.SILENT
        assert client.sink.ending is endings.SILENT
        assert (client.sink.pings, len(client.sink.of("ping"))) == (1, 1)

    async def test_traffic_towards_the_client_says_nothing_about_it(
        self, autojump_clock: MockClock, world: World
    ) -> None:
        client = await world.connect()
        await client.subscribe("a")
        for percent in range(40):
            await world.publish("a", percent=percent)
            await trio.sleep(1)
        assert client.ending is endings.SILENT

    async def test_whatever_is_heard_keeps_it(
        self, autojump_clock: MockClock, world: World
    ) -> None:
        client = await world.connect()
        for _ in range(10):
            await trio.sleep(30)
            await client.source.say(type="pong")
        assert client.ending is None

    async def test_bytes_without_a_message_count_too(
        self, autojump_clock: MockClock, world: World
    ) -> None:
        client = await world.connect()
        for _ in range(10):
            await trio.sleep(30)
            client.source.heard_at = trio.current_time()  # a WebSocket pong
        assert client.ending is None

    async def test_a_one_way_transport_is_pinged_but_never_ended(
        self, autojump_clock: MockClock, world: World
    ) -> None:
        client = Client(Sink())
        client.source.heard_at = None
        world.nursery.start_soon(client.run, world.node)
        await trio.sleep(110)
        assert client.ending is None
        assert len(client.sink.of("ping")) == 4


class TestEndings:
    async def test_a_stuck_client_is_aborted_and_disturbs_nobody(
        self, autojump_clock: MockClock, world: World
    ) -> None:
        stuck, other = await world.connect(StuckSink(writes=2)), await world.connect()
        for client in (stuck, other):
            await client.subscribe("a")
        start = trio.current_time()
        for percent in range(100):
            await world.publish("a", percent=percent)
        await quiet()
        assert other.sink.of("progress")[-1]["state"]["percent"] == 99
        assert trio.current_time() == start

        await stuck.ended.wait()
        assert trio.current_time() - start == world.node.limits.write_timeout
        assert stuck.ending is endings.STUCK
        assert stuck.sink.aborted
        assert stuck.sink.ending is None  # half a frame may be on the wire: no close frame

    async def test_a_client_that_goes_while_we_write(
        self, autojump_clock: MockClock, world: World
    ) -> None:
        client = await world.connect(GoneSink(writes=1))
        await client.subscribe("a")
        await client.ended.wait()
        assert (client.ending, client.sink.aborted) == (endings.NORMAL, True)

    async def test_the_first_reason_wins(self, autojump_clock: MockClock, world: World) -> None:
        client = await world.connect()
        await client.subscribe("a")
        client.source.fail(ConnectionEnds(endings.TOO_BIG))
        client.source.hang_up()
        await client.ended.wait()
        assert client.sink.ending is endings.TOO_BIG

    async def test_a_defect_of_the_reader_ends_with_1011(
        self, autojump_clock: MockClock, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        client = await world.connect()
        client.source.fail(ZeroDivisionError("a defect"))
        await client.ended.wait()
        assert client.sink.ending is endings.INTERNAL
        assert "a defect" in caplog.text

    async def test_a_defect_of_the_writer_aborts_and_is_raised(
        self, autojump_clock: MockClock, world: World
    ) -> None:
        sink = BrokenSink()
        with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
            await world.node.serve(FakeSource(), sink)
        assert sink.aborted
        assert world.node.statistics().connections == 0

    async def test_cancelled_from_outside_it_aborts(
        self, autojump_clock: MockClock, world: World
    ) -> None:
        sink = Sink()
        with trio.move_on_after(1):
            await world.node.serve(FakeSource(), sink)
        assert (sink.aborted, sink.ending) == (True, None)

    async def test_a_full_node_refuses(
        self, autojump_clock: MockClock, world: World, limits: Limits
    ) -> None:
        world.node.limits = evolve(limits, max_connections=1)
        await world.connect()
        refused = await world.connect()
        assert refused.sink.ending is endings.FULL
        assert refused.sink.frames == []


async def test_a_client_that_floods_and_does_not_read_is_waited_for(
    autojump_clock: MockClock, world: World
) -> None:
    client = await world.connect(StuckSink(writes=1))
    for _ in range(50):
        await client.source.say(type="ping")
    await quiet()
    left = client.source._said.statistics().current_buffer_used
    assert left >= 50 - 2 * world.node.limits.max_replies - 2


async def test_max_hz_paces_progress_but_not_answers(
    autojump_clock: MockClock, world: World
) -> None:
    client = await world.connect()
    await client.source.say(type="hello", max_hz=2)
    await client.subscribe("a")
    start = trio.current_time()
    for percent in range(100):
        await world.publish("a", percent=percent)
        if percent == 50:
            await client.source.say(type="ping")
        await trio.sleep(0.05)
    await world.publish("a", status="succeeded")
    await trio.sleep(1)
    told = [
        at - start
        for at, frame in zip(client.sink.times, client.sink.frames, strict=True)
        if frame["type"] == "progress" and frame["seq"]
    ]
    assert all(later - earlier >= 0.5 for earlier, later in itertools.pairwise(told))
    assert 10 <= len(told) <= 12
    assert client.sink.of("progress")[-1]["state"]["status"] == "succeeded"
    pong_at = client.sink.times[client.sink.frames.index({"type": "pong"})]
    assert pong_at - start == pytest.approx(2.5, abs=0.06)


class TestDrain:
    async def test_clients_hear_goaway_and_then_1001(
        self, autojump_clock: MockClock, world: World
    ) -> None:
        client = await world.connect()
        await client.subscribe("a")
        await world.publish("a", status="succeeded")
        await quiet()
        await world.node.drain()
        await quiet()
        assert client.sink.frames[-1]["type"] == "goaway"
        assert client.sink.of("goaway")[0]["code"] == 1001
        assert client.sink.of("progress")[-1]["state"]["status"] == "succeeded"
        assert client.sink.ending is endings.GOING_AWAY
        assert world.node.not_ready == "draining"
        assert (await world.connect()).sink.ending is endings.GOING_AWAY

    async def test_a_stuck_client_cannot_hold_it_longer_than_the_deadline(
        self, autojump_clock: MockClock, world: World, limits: Limits
    ) -> None:
        world.node.limits = evolve(limits, drain_timeout=3.0)
        stuck = await world.connect(StuckSink(writes=1))
        await stuck.source.say(type="ping")
        await quiet()
        start = trio.current_time()
        await world.node.drain()
        assert trio.current_time() - start == 3

    async def test_many_are_sent_away_in_waves(
        self, autojump_clock: MockClock, world: World
    ) -> None:
        clients = [await world.connect() for _ in range(250)]
        start = trio.current_time()
        await world.node.drain()
        took = trio.current_time() - start
        assert 0 < took < world.node.limits.drain_timeout
        assert all(client.sink.ending is endings.GOING_AWAY for client in clients)


async def test_leases_reach_the_client(autojump_clock: MockClock, world: World) -> None:
    client = await world.connect()
    await client.subscribe("a")
    await world.publish("a", lease=5, percent=7)
    for _ in range(60):
        await trio.sleep(1)
        await client.source.say(type="pong")
    healths = [frame["state"]["health"] for frame in client.sink.of("progress")[1:]]
    assert healths == ["ok", "stalled", "lost"]
    await world.publish("a")
    await quiet()
    assert client.sink.of("progress")[-1]["state"]["health"] == "ok"


async def test_a_long_replay_is_written_in_parts(
    autojump_clock: MockClock, world: World, limits: Limits
) -> None:
    world.node.limits = evolve(limits, ring_bytes=2_000_000)
    sizes: list[int] = []

    class Measured(Sink):
        def send(self, messages: Sequence[Message]) -> bool:
            sizes.append(sum(message.size for message in messages))
            return super().send(messages)

    epoch, _ = await world.publish("a", percent=0)
    for number in range(19):
        data = Raw(b'"%b"' % (b"%d" % number * 4_000)[:8_000])
        await world.publish("a", message="x" * 1000, error="y" * 4000, data=data, done=number)
    client = await world.connect(Measured())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gateway.connection.WRITE_SIZE", 20_000)
        await client.source.say(type="hello", positions={"a": [epoch, 1]})
        await client.subscribe("a", mode="every")
    assert client.seen == [(n - 1, n) for n in range(2, 21)]
    assert max(sizes) < 40_000


class TestTally:
    """What a node counts of its connections."""

    async def test_what_was_said_and_told(self, autojump_clock: MockClock, world: World) -> None:
        epoch, _ = await world.publish("a", percent=1)
        client = await world.connect()
        await client.source.say_text("{")
        await client.source.say(type="hello", positions={"a": [epoch, 9], "b": [epoch, 1]})
        await client.subscribe("a", "b", "c d")
        await world.publish("b", percent=1)
        await quiet()
        tally = world.node.tally
        assert tally.violations == {"invalid_json": 1, "invalid_job": 1}
        assert tally.subscribed == {True: 2}
        assert {kind.__name__: n for kind, n in tally.commands.items()} == {
            "Hello": 1,
            "Subscribe": 1,
        }
        told = [frame["type"] for frame in client.sink.frames]
        assert sum(tally.sent.values()) == len(told)
        assert tally.sent == {
            "answer": told.count("welcome") + told.count("error") + told.count("subscriptions"),
            "snapshot": 1,  # the first event of b, which was unseen before
            "resync": 2,  # neither position could be continued
            "step": 0,
            "gap": 0,
        }

    async def test_a_slow_client_is_spared_some(
        self, autojump_clock: MockClock, world: World
    ) -> None:
        client = await world.connect()
        await client.source.say(type="hello", max_hz=1)
        await client.subscribe("a")
        for percent in range(10):
            await world.publish("a", percent=percent)
        await trio.sleep(2)
        for percent in range(10, 15):
            await world.publish("a", percent=percent)
        await trio.sleep(2)
        steps = [(prev, seq) for prev, seq in client.seen if prev is not None]
        skipped = sum(seq - prev - 1 for prev, seq in steps)
        assert skipped >= 3
        assert world.node.tally.conflated == skipped
        assert world.node.tally.sent["step"] == len(steps)

    async def test_times(self, autojump_clock: MockClock, world: World) -> None:
        client = await world.connect(SlowSink(takes=2.0))
        await client.subscribe("a")
        await trio.sleep(28)
        pinged_at = client.sink.times[client.sink.frames.index({"type": "ping"})] - 2
        await trio.sleep(4)
        await client.source.say(type="pong")
        await client.source.say(type="pong")
        await quiet()
        tally = world.node.tally
        assert tally.round_trip.total == trio.current_time() - pinged_at
        assert sum(tally.round_trip.counts) == 1
        writes, queued = tally.writes, tally.queued.total
        for percent in range(8):
            await world.publish("a", percent=percent)
            await trio.sleep(1.25)
        await trio.sleep(2.5)
        assert tally.waited.total == 2 * sum(tally.waited.counts)
        # One begins every 2 s. What it takes has been due since the first update that came
        # while the one before was under way.
        due = {0: 0, 2: 1.25, 4: 2.5, 6: 5, 8: 6.25, 10: 8.75}
        assert tally.writes - writes == len(due)
        timed = [at - due[at] for write, at in enumerate(due, writes) if write % TIMED == 0]
        assert tally.queued.total - queued == sum(timed) > 0
