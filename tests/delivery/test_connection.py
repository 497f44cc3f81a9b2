"""One client against a node, on a mock clock: no network, no wall time.

`wait_all_tasks_blocked()` lets every task run until all wait; virtual time moves only by
`trio.sleep`. (pytest-trio takes the clock from a test's own arguments, so each test names it.)
"""

from __future__ import annotations

import gc
import itertools
import logging
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import trio
import trio.testing
from attrs import evolve
from msgspec import Raw
from trio.testing import MockClock, wait_all_tasks_blocked

from gateway import Limits
from gateway.delivery.frame_writer import WRITE_SIZE
from gateway.delivery.session import Session
from gateway.delivery.transport import ConnectionEnds
from gateway.model.constants import MAX_SET_LIMIT
from gateway.model.errors import BrokerUnavailable
from gateway.model.state import Event
from gateway.observability.counters import SAMPLE_EVERY
from gateway.protocol import close_codes
from gateway.protocol.close_codes import CloseCode
from gateway.protocol.commands import SyncSubscriptions, WatchSet
from gateway.protocol.messages import Message

from ..fakes import BrokenSink, FakeSource, GoneSink, Sink, SlowSink, StuckSink
from .harness import Harness, HarnessClient


@pytest.fixture
def limits() -> Limits:
    return Limits(max_replies=4, job_replay_bytes=2000, history=20)


async def test_welcome_is_sent_first_and_commands_are_answered(
    autojump_clock: MockClock, harness: Harness
) -> None:
    client = await harness.connect()
    await client.source.send(type="ping")
    await client.source.send(type="sync_subscriptions", id=1, jobs=["a", "b", "a b"])
    await client.source.send(type="sync_subscriptions", id=2, jobs=["b", "a", "b"])
    await wait_all_tasks_blocked()
    await client.source.send(type="unsubscribe", id=3, jobs=["a", "never"])
    await client.source.send(type="sync_subscriptions", id=4, jobs=["c"])
    await wait_all_tasks_blocked()
    assert client.sink.frames[0]["type"] == "welcome"
    assert client.sink.frames_of("pong") == [{"type": "pong"}]
    answers = [
        (f["id"], f["added"], f["removed"], f["unchanged"], f["denied"])
        for f in client.sink.frames_of("subscriptions")
    ]
    assert answers == [
        (1, ["a", "b"], [], 0, {"a b": "invalid_job"}),
        (2, [], [], 2, {}),
        (3, [], ["a"], 0, {}),
        (4, ["c"], ["b"], 0, {}),
    ]
    assert [f["job"] for f in client.sink.frames_of("progress")] == ["a", "b", "c"]


async def test_a_subscriber_gets_a_snapshot_and_contiguous_frames(
    autojump_clock: MockClock, harness: Harness
) -> None:
    await harness.publish("a", percent=1)
    client = await harness.connect()
    await client.subscribe("a")
    assert client.seen == [(None, 1)]
    for percent in range(2, 500):
        await harness.publish("a", percent=percent / 5)
    await harness.publish("a", status="succeeded")
    await wait_all_tasks_blocked()
    for (_, seq), (prev, _) in zip(client.seen, client.seen[1:], strict=False):
        assert prev == seq
    assert client.sink.frames_of("progress")[-1]["state"]["status"] == "succeeded"


async def test_a_single_update_is_delivered_without_a_second(
    autojump_clock: MockClock, harness: Harness
) -> None:
    client = await harness.connect()
    await client.subscribe("a")
    await harness.publish("a", percent=1)
    await wait_all_tasks_blocked()
    assert client.seen == [(None, 0), (None, 1)]


async def test_mode_every_gets_each_event_or_a_gap(
    autojump_clock: MockClock, harness: Harness
) -> None:
    await harness.publish("a", percent=1)
    sink = Sink()
    client = await harness.connect(sink)
    await client.subscribe("a", mode="every")
    for percent in range(2, 12):
        await harness.publish("a", percent=percent, message="x" * 900)
    await wait_all_tasks_blocked()
    # The ring holds two of these: the rest came from the broker's history.
    assert client.seen == [(None, 1), *((n - 1, n) for n in range(2, 12))]
    assert sink.frames_of("gap") == []

    hello = {"a": [sink.frames_of("progress")[0]["epoch"], 3]}
    for percent in range(12, 60):
        await harness.publish("a", percent=percent)
    late = await harness.connect()
    await late.source.send(type="hello", positions=hello)
    await late.subscribe("a", mode="every")
    assert [(g["from"], g["to"]) for g in late.sink.frames_of("gap")] == [(4, 58)]
    assert late.seen[-1][1] == 59


async def test_a_broker_that_does_not_answer_blocks_no_client(
    autojump_clock: MockClock, harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that waits for a history still gets answers, pings and new events."""
    epoch, _ = await harness.publish("a", percent=1)
    for percent in range(2, 12):
        await harness.publish("a", percent=percent, message="x" * 900)
    client = await harness.connect()

    async def hang(*args: Any, **more: Any) -> list[Event]:
        await trio.sleep(7)
        raise BrokerUnavailable("at last")

    history = harness.broker.history
    monkeypatch.setattr(harness.broker, "history", hang)
    await client.source.send(type="hello", positions={"a": [epoch, 1]})
    await client.source.send(type="subscribe", jobs=["a", "b"], mode="every")
    for _ in range(10):
        await client.source.send(type="ping")
        await harness.publish("a", percent=12)
        await trio.sleep(4.9)
    assert len(client.sink.frames_of("subscriptions")) == 1
    assert len(client.sink.frames_of("pong")) == 10
    assert not client.ended.is_set()
    assert [frame["job"] for frame in client.sink.frames_of("progress")] == ["b"]
    monkeypatch.setattr(harness.broker, "history", history)
    await harness.publish("a", percent=13)
    await trio.sleep(7 + harness.node.limits.compare_interval * 1.2)
    assert client.seen == [(None, 0), *((n - 1, n) for n in range(2, 14))]


async def test_at_most_one_write_is_buffered(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """Messages for a client that does not read stay in the topics, which all clients share. When
    the client reads again, it gets the newest states of the jobs that it still watches."""
    harness = Harness(nursery, Limits())
    await nursery.start(harness.node.run)
    jobs = [f"job:{number}" for number in range(100)]
    for job in jobs:
        await harness.publish(job, data=Raw(b'"%b"' % (b"x" * 8_000)))
    client = await harness.connect(SlowSink(takes=1.0))
    await client.subscribe(*jobs)
    await trio.sleep(1.5)
    for job in jobs:
        await harness.publish(job, percent=50, data=Raw(b"1"))
    await client.source.send(type="unsubscribe", jobs=[jobs[-1]])
    await trio.sleep(15)
    frames = client.sink.frames_of("progress")
    behind = WRITE_SIZE // 8_000
    assert len(frames) <= len(jobs) + 2 * behind + 2
    assert [frame["seq"] for frame in frames][-behind:] == [2] * behind
    assert jobs[-1] not in {frame["job"] for frame in frames}


async def test_the_position_of_a_job_that_is_denied_is_forgotten(
    autojump_clock: MockClock, harness: Harness, limits: Limits
) -> None:
    """The client drops the job's state, so it needs a snapshot later."""
    harness.node.limits = evolve(limits, max_jobs_per_connection=1)
    epoch, seq = await harness.publish("b", status="succeeded")
    client = await harness.connect()
    await client.source.send(type="hello", positions={"b": [epoch, seq]})
    await client.subscribe("a", "b")
    await client.source.send(type="unsubscribe", jobs=["a"])
    await client.subscribe("b")
    assert client.sink.frames_of("progress")[-1] == {
        **client.sink.frames_of("progress")[-1], "job": "b", "prev": None, "seq": seq,
    }  # fmt: skip


async def test_positions_of_hello_are_used_once(
    autojump_clock: MockClock, harness: Harness
) -> None:
    epoch, _ = await harness.publish("a", percent=1)
    await harness.publish("a", percent=2)
    await harness.publish("b", percent=1)
    client = await harness.connect()
    await client.source.send(
        type="hello", positions={"a": [epoch, 1], "b": [epoch, 1], "c": [None, 0], "d": [1, 1]}
    )
    b_epoch = (await harness.broker.read(["b"]))["b"].position.epoch
    await client.source.send(type="hello", positions={"a": [epoch, 1], "b": [b_epoch, 1]})
    await client.subscribe("a", "b")
    assert client.seen == [(1, 2)]  # b is up to date: nothing
    await client.source.send(type="unsubscribe", jobs=["a"])
    await client.subscribe("a")
    assert client.seen == [(1, 2), (None, 2)]


async def test_a_hello_replaces_the_positions_of_the_hello_before(
    autojump_clock: MockClock, harness: Harness
) -> None:
    epoch, _ = await harness.publish("a", percent=1)
    client = await harness.connect()
    await client.source.send(type="hello", positions={"a": [epoch, 1]})
    await client.source.send(type="hello")
    await client.subscribe("a")
    assert client.seen == [(None, 1)]


@pytest.mark.parametrize("limits", [Limits(max_jobs_per_connection=1, max_sets_per_connection=2)])
async def test_a_hello_has_positions_of_as_many_jobs_as_a_client_can_watch(
    autojump_clock: MockClock, harness: Harness
) -> None:
    client = await harness.connect()
    most = 1 + 2 * MAX_SET_LIMIT
    for count in (most, most + 1):
        positions = {f"j{number}": [1, 1] for number in range(count)}
        await client.source.send(type="hello", positions=positions)
        await wait_all_tasks_blocked()
        errors = client.sink.frames_of("error")
        assert [error["code"] for error in errors] == ["invalid_command"] * (count > most)


@pytest.mark.parametrize("limits", [Limits(max_topics=3)])  # with the probe's
async def test_a_node_at_max_topics_refuses_other_jobs(
    autojump_clock: MockClock, harness: Harness
) -> None:
    first_client, second_client = await harness.connect(), await harness.connect()
    await first_client.subscribe("a", "b", "c")
    assert first_client.sink.frames_of("subscriptions")[0]["denied"] == {"c": "node_full"}
    await second_client.subscribe("a", "d")
    answer = second_client.sink.frames_of("subscriptions")[0]
    assert (answer["added"], answer["denied"]) == (["a"], {"d": "node_full"})

    stream = Sink()
    close_code = await harness.node.serve(FakeSource(), stream, positions={"d": None, "e": None})
    assert stream.frames_of("subscriptions")[0]["denied"] == {"d": "node_full", "e": "node_full"}
    assert stream.close_code is not None
    assert close_code.code == stream.close_code.code == close_codes.OVERLOADED.code
    assert stream.close_code.reason == "this node watches 3 jobs already"
    await first_client.source.send(type="unsubscribe", jobs=["b"])
    await second_client.subscribe("d")
    assert second_client.sink.frames_of("subscriptions")[1]["added"] == ["d"]


@pytest.mark.parametrize("limits", [Limits(max_topics=3, max_sets=1)])  # with the probe's
async def test_what_a_stream_is_denied_does_not_end_the_rest(
    autojump_clock: MockClock, harness: Harness
) -> None:
    source, sink = FakeSource(), Sink()
    positions = dict.fromkeys(("d", "a", "b", "c"))
    sets = (WatchSet(prefix="x:"), WatchSet(prefix="y:"))
    async with trio.open_nursery() as nursery:
        serve = partial(harness.node.serve, source, sink, positions=positions, sets=sets)
        nursery.start_soon(serve)
        await wait_all_tasks_blocked()
        assert [frame["denied"] for frame in sink.frames_of("subscriptions")] == [
            {"b": "node_full", "c": "node_full"}
        ]
        assert [(error["code"], error["prefix"]) for error in sink.frames_of("error")] == [
            ("node_full", "y:")
        ]
        assert [frame["prefix"] for frame in sink.frames_of("set")] == ["x:"]
        assert harness.node.counters.protocol_errors == {"node_full": 3}
        await harness.publish("a", percent=40)
        await wait_all_tasks_blocked()
        assert sink.frames_of("progress")[-1]["state"]["percent"] == 40
        source.hang_up()


async def test_long_commands_are_handled_one_at_a_time(
    autojump_clock: MockClock, harness: Harness
) -> None:
    """At most one long command is handled in each pass of the scheduler, and all other tasks run in
    between."""
    clients = [await harness.connect() for _ in range(5)]
    jobs = [f"{'x' * 50}:{number}" for number in range(100)]
    await wait_all_tasks_blocked()
    commands = harness.node.counters.commands
    async with trio.open_nursery() as nursery:
        for client, mode in itertools.product(clients, ("latest", "every")):
            command = {"type": "sync_subscriptions", "jobs": jobs, "mode": mode}
            nursery.start_soon(partial(client.source.send, **command))
    done = [commands[SyncSubscriptions]]
    assert done[0] < len(clients)
    while done[-1] < 2 * len(clients):
        await trio.lowlevel.checkpoint()
        done.append(commands[SyncSubscriptions])
    assert max(after - before for before, after in pairwise(done)) == 1


@pytest.mark.parametrize("sink", [Sink, partial(GoneSink, writes=4)])
@pytest.mark.parametrize("close_code", [None, close_codes.MALFORMED])
async def test_a_closed_connection_leaves_no_reference_cycle(
    autojump_clock: MockClock,
    harness: Harness,
    sink: Callable[[], Sink],
    close_code: CloseCode | None,
) -> None:
    """`gc_tuning` relies on the absence of cycles: they stay in memory for a minute or, where there
    are many connections, until there are fewer. (On Python 3.13 a write that times out leaves a
    cycle, the frames of `trio.fail_after`. Such writes are rare.)"""
    gc.collect()
    gc.disable()
    try:
        client = await harness.connect(sink())
        [session] = [candidate for candidate in gc.get_objects() if isinstance(candidate, Session)]
        parts = weakref.WeakSet([session, session.outbox])
        del session
        await client.subscribe("a", "b")
        await client.source.send(type="watch_set", prefix="a")
        await wait_all_tasks_blocked()
        for percent in range(4):
            await harness.publish("a", percent=percent)
            await wait_all_tasks_blocked()
        if close_code is None:
            client.source.hang_up()
        else:
            client.source.fail(ConnectionEnds(close_code))
        await client.ended.wait()
        del client
        await wait_all_tasks_blocked()
        assert not list(parts)
    finally:
        gc.enable()


async def test_a_second_connection_is_independent(
    autojump_clock: MockClock, harness: Harness
) -> None:
    first_client, second_client = await harness.connect(), await harness.connect()
    await first_client.subscribe("a")
    await second_client.subscribe("a")
    first_client.source.hang_up()
    await first_client.ended.wait()
    await harness.publish("a", percent=1)
    await wait_all_tasks_blocked()
    assert second_client.seen == [(None, 0), (None, 1)]
    assert harness.node.statistics().connections == 1


async def test_subscribing_again_changes_the_mode(
    autojump_clock: MockClock, harness: Harness
) -> None:
    client = await harness.connect()
    await client.source.send(type="hello", max_hz=1)  # so that events are conflated
    await client.subscribe("a")
    await client.subscribe("a", mode="every")
    for percent in (1, 2, 3):
        await harness.publish("a", percent=percent)
    await trio.sleep(3)
    assert [frame["state"]["percent"] for frame in client.sink.frames_of("progress")[-3:]] == [
        1,
        2,
        3,
    ]


async def test_no_frame_follows_an_unsubscribe(autojump_clock: MockClock, harness: Harness) -> None:
    client = await harness.connect()
    await client.subscribe("a")
    await client.source.send(type="unsubscribe", jobs=["a"])
    await harness.publish("a", percent=1)
    await wait_all_tasks_blocked()
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
async def test_an_invalid_command_is_named_and_the_connection_stays(
    autojump_clock: MockClock, harness: Harness, text: str, code: str, named: str
) -> None:
    client = await harness.connect()
    await client.source.send_text(text)
    await client.source.send(type="ping")
    await wait_all_tasks_blocked()
    error, pong = client.sink.frames[1:]
    assert (error["type"], error["code"], pong["type"]) == ("error", code, "pong")
    assert named in error["message"]


async def test_the_number_of_jobs_per_connection_is_limited(
    autojump_clock: MockClock, harness: Harness, limits: Limits
) -> None:
    harness.node.limits = evolve(limits, max_jobs_per_connection=2)
    client = await harness.connect()
    await client.subscribe("a", "b", "c")
    assert client.sink.frames_of("subscriptions")[0]["denied"] == {"c": "too_many_jobs"}


class TestPings:
    async def test_a_silent_client_is_pinged_and_then_disconnected(
        self, autojump_clock: MockClock, harness: Harness
    ) -> None:
        start = trio.current_time()
        client = await harness.connect()
        await client.ended.wait()
        assert trio.current_time() - start == 35
        assert client.close_code is close_codes.PING_TIMEOUT
        assert client.sink.close_code is close_codes.PING_TIMEOUT
        assert (client.sink.pings, len(client.sink.frames_of("ping"))) == (1, 1)

    async def test_sent_frames_do_not_count_as_a_sign_of_life(
        self, autojump_clock: MockClock, harness: Harness
    ) -> None:
        client = await harness.connect()
        await client.subscribe("a")
        for percent in range(40):
            await harness.publish("a", percent=percent)
            await trio.sleep(1)
        assert client.close_code is close_codes.PING_TIMEOUT

    async def test_any_message_of_the_client_resets_the_deadline(
        self, autojump_clock: MockClock, harness: Harness
    ) -> None:
        client = await harness.connect()
        for _ in range(10):
            await trio.sleep(30)
            await client.source.send(type="pong")
        assert client.close_code is None

    async def test_a_client_that_answers_the_first_ping_gets_no_second(
        self, autojump_clock: MockClock, harness: Harness
    ) -> None:
        """The transport's own ping suffices for such a client. Only clients that do not answer it
        get the JSON ping."""
        client = await harness.connect()
        for _ in range(4):
            await trio.sleep(29)
            client.source.received_at = trio.current_time()  # a WebSocket pong
        assert (client.sink.pings, client.sink.frames_of("ping")) == (4, [])
        await trio.sleep(31)
        assert (client.sink.pings, client.sink.frames_of("ping")) == (5, [{"type": "ping"}])
        await client.source.send(type="pong")
        await trio.sleep(20)
        assert client.close_code is None

    async def test_bytes_without_a_message_reset_the_deadline_too(
        self, autojump_clock: MockClock, harness: Harness
    ) -> None:
        client = await harness.connect()
        for _ in range(10):
            await trio.sleep(30)
            client.source.received_at = trio.current_time()  # a WebSocket pong
        assert client.close_code is None

    async def test_a_one_way_transport_is_pinged_and_never_disconnected(
        self, autojump_clock: MockClock, harness: Harness
    ) -> None:
        client = HarnessClient(Sink())
        client.source.received_at, client.source.answers_pings = None, False
        harness.nursery.start_soon(client.run, harness.node)
        await trio.sleep(110)
        assert client.close_code is None
        assert len(client.sink.frames_of("ping")) == 4


class TestClosing:
    async def test_a_stuck_client_is_aborted_and_does_not_affect_others(
        self, autojump_clock: MockClock, harness: Harness
    ) -> None:
        stuck, other_client = await harness.connect(StuckSink(writes=2)), await harness.connect()
        for client in (stuck, other_client):
            await client.subscribe("a")
        start = trio.current_time()
        for percent in range(100):
            await harness.publish("a", percent=percent)
        await wait_all_tasks_blocked()
        assert other_client.sink.frames_of("progress")[-1]["state"]["percent"] == 99
        assert trio.current_time() == start

        await stuck.ended.wait()
        assert trio.current_time() - start == harness.node.limits.write_timeout
        assert stuck.close_code is close_codes.WRITE_TIMEOUT
        assert stuck.sink.aborted
        assert stuck.sink.close_code is None  # half a frame may be on the wire: no close frame

    async def test_a_client_that_leaves_during_a_write_is_closed(
        self, autojump_clock: MockClock, harness: Harness
    ) -> None:
        client = await harness.connect(GoneSink(writes=1))
        await client.subscribe("a")
        await client.ended.wait()
        assert (client.close_code, client.sink.aborted) == (close_codes.NORMAL, True)

    async def test_the_first_close_reason_wins(
        self, autojump_clock: MockClock, harness: Harness
    ) -> None:
        client = await harness.connect()
        await client.subscribe("a")
        client.source.fail(ConnectionEnds(close_codes.TOO_BIG))
        client.source.hang_up()
        await client.ended.wait()
        assert client.sink.close_code is close_codes.TOO_BIG

    async def test_an_exception_in_the_reader_closes_with_1011(
        self, autojump_clock: MockClock, harness: Harness, caplog: pytest.LogCaptureFixture
    ) -> None:
        client = await harness.connect()
        client.source.fail(ZeroDivisionError("a defect"))
        await client.ended.wait()
        assert client.sink.close_code is close_codes.INTERNAL
        assert "a defect" in caplog.text

    async def test_an_exception_in_the_writer_aborts_and_is_raised(
        self, autojump_clock: MockClock, harness: Harness
    ) -> None:
        sink = BrokenSink()
        with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
            await harness.node.serve(FakeSource(), sink)
        assert sink.aborted
        assert harness.node.statistics().connections == 0

    async def test_a_cancelled_connection_is_aborted(
        self, autojump_clock: MockClock, harness: Harness
    ) -> None:
        sink = Sink()
        with trio.move_on_after(1):
            await harness.node.serve(FakeSource(), sink)
        assert (sink.aborted, sink.close_code) == (True, None)

    async def test_a_full_node_closes_with_4002(
        self, autojump_clock: MockClock, harness: Harness, limits: Limits
    ) -> None:
        harness.node.limits = evolve(limits, max_connections=1)
        await harness.connect()
        refused_client = await harness.connect()
        assert refused_client.sink.close_code is close_codes.OVERLOADED
        assert refused_client.sink.frames == []


async def test_commands_of_a_client_that_does_not_read_wait(
    autojump_clock: MockClock, harness: Harness
) -> None:
    client = await harness.connect(StuckSink(writes=1))
    for _ in range(50):
        await client.source.send(type="ping")
    await wait_all_tasks_blocked()
    left = client.source._sent.statistics().current_buffer_used
    assert left >= 50 - 2 * harness.node.limits.max_replies - 2


async def test_commands_of_a_slow_client_are_all_answered(
    autojump_clock: MockClock, harness: Harness
) -> None:
    """There are more commands than reply slots: the reader waits for a slot, and continues."""
    client = await harness.connect(SlowSink(takes=0.5))
    commands = 10 * harness.node.limits.max_replies
    for _ in range(commands):
        await client.source.send(type="ping")
    await trio.sleep(commands / 2 + 1)
    assert len(client.sink.frames_of("pong")) == commands
    assert client.close_code is None


async def test_max_hz_limits_progress_and_not_replies(
    autojump_clock: MockClock, harness: Harness
) -> None:
    client = await harness.connect()
    await client.source.send(type="hello", max_hz=2)
    await client.subscribe("a")
    start = trio.current_time()
    for percent in range(100):
        await harness.publish("a", percent=percent)
        if percent == 50:
            await client.source.send(type="ping")
        await trio.sleep(0.05)
    await harness.publish("a", status="succeeded")
    await trio.sleep(1)
    frame_types = [
        at - start
        for at, frame in zip(client.sink.times, client.sink.frames, strict=True)
        if frame["type"] == "progress" and frame["seq"]
    ]
    assert all(later - earlier >= 0.5 for earlier, later in itertools.pairwise(frame_types))
    assert 10 <= len(frame_types) <= 12
    assert client.sink.frames_of("progress")[-1]["state"]["status"] == "succeeded"
    pong_at = client.sink.times[client.sink.frames.index({"type": "pong"})]
    assert pong_at - start == pytest.approx(2.5, abs=0.06)


async def test_the_max_hz_of_a_request_limits_progress_from_the_start(
    autojump_clock: MockClock, harness: Harness, nursery: trio.Nursery
) -> None:
    sink = Sink()
    serve = partial(harness.node.serve, FakeSource(), sink, positions={"a": None}, max_hz=1)
    nursery.start_soon(serve)
    for percent in range(10):
        await wait_all_tasks_blocked()
        await harness.publish("a", percent=percent)
        await trio.sleep(0.1)
    await trio.sleep(1)
    received = [
        frame["state"] and frame["state"]["percent"] for frame in sink.frames_of("progress")
    ]
    assert received == [None, 9]


@pytest.mark.parametrize("limits", [Limits(max_topics=1)])  # the probe's
async def test_the_log_has_the_code_and_the_reason_of_an_end(
    autojump_clock: MockClock, harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gateway.node")
    await harness.node.serve(FakeSource(), Sink(), positions={"a": None})
    client = await harness.connect()
    await trio.sleep(3)
    client.source.hang_up()
    await client.ended.wait()
    closed = [vars(record) for record in caplog.records if record.msg == "connection closed"]
    assert [(entry["code"], entry["reason"], entry["duration_s"]) for entry in closed] == [
        (4002, "this node watches 1 jobs already", 0),
        (1000, "normal", 3),
    ]


class TestDrain:
    async def test_a_node_without_clients_is_drained_at_once(
        self, autojump_clock: MockClock, harness: Harness
    ) -> None:
        start = trio.current_time()
        await harness.node.drain()
        assert trio.current_time() == start

    async def test_clients_get_goaway_and_then_1001(
        self, autojump_clock: MockClock, harness: Harness
    ) -> None:
        client = await harness.connect()
        await client.subscribe("a")
        await harness.publish("a", status="succeeded")
        await wait_all_tasks_blocked()
        await harness.node.drain()
        await wait_all_tasks_blocked()
        assert client.sink.frames[-1]["type"] == "goaway"
        assert client.sink.frames_of("goaway")[0]["code"] == 1001
        assert client.sink.frames_of("progress")[-1]["state"]["status"] == "succeeded"
        assert client.sink.close_code is close_codes.GOING_AWAY
        assert harness.node.not_ready_reason == "draining"
        assert (await harness.connect()).sink.close_code is close_codes.GOING_AWAY

    async def test_a_stuck_client_does_not_delay_the_drain_beyond_its_deadline(
        self, autojump_clock: MockClock, harness: Harness, limits: Limits
    ) -> None:
        harness.node.limits = evolve(limits, shutdown_timeout=3.0)
        stuck = await harness.connect(StuckSink(writes=1))
        await stuck.source.send(type="ping")
        await wait_all_tasks_blocked()
        start = trio.current_time()
        await harness.node.drain()
        assert trio.current_time() - start == 3

    @pytest.mark.slow
    async def test_many_clients_are_drained_in_batches(
        self, autojump_clock: MockClock, harness: Harness
    ) -> None:
        clients = [await harness.connect() for _ in range(250)]
        start = trio.current_time()
        await harness.node.drain()
        took = trio.current_time() - start
        assert 0 < took < harness.node.limits.shutdown_timeout
        assert all(client.sink.close_code is close_codes.GOING_AWAY for client in clients)


async def test_expired_leases_reach_the_client(autojump_clock: MockClock, harness: Harness) -> None:
    client = await harness.connect()
    await client.subscribe("a")
    await harness.publish("a", lease=5, percent=7)
    for _ in range(60):
        await trio.sleep(1)
        await client.source.send(type="pong")
    healths = [frame["state"]["health"] for frame in client.sink.frames_of("progress")[1:]]
    assert healths == ["ok", "stalled", "lost"]
    await harness.publish("a")
    await wait_all_tasks_blocked()
    assert client.sink.frames_of("progress")[-1]["state"]["health"] == "ok"


async def test_a_long_replay_is_written_in_parts(
    autojump_clock: MockClock, harness: Harness, limits: Limits
) -> None:
    harness.node.limits = evolve(limits, job_replay_bytes=2_000_000)
    sizes: list[int] = []

    class Measured(Sink):
        def send(self, messages: Sequence[Message]) -> bool:
            sizes.append(sum(message.size for message in messages))
            return super().send(messages)

    epoch, _ = await harness.publish("a", percent=0)
    for number in range(19):
        data = Raw(b'"%b"' % (b"%d" % number * 4_000)[:8_000])
        await harness.publish("a", message="x" * 1000, error="y" * 4000, data=data, done=number)
    client = await harness.connect(Measured())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gateway.delivery.frame_writer.WRITE_SIZE", 20_000)
        await client.source.send(type="hello", positions={"a": [epoch, 1]})
        await client.subscribe("a", mode="every")
    assert client.seen == [(n - 1, n) for n in range(2, 21)]
    assert max(sizes) < 40_000


class TestCounters:
    """What a node counts of its connections."""

    async def test_commands_and_messages_are_counted(
        self, autojump_clock: MockClock, harness: Harness
    ) -> None:
        epoch, _ = await harness.publish("a", percent=1)
        client = await harness.connect()
        await client.source.send_text("{")
        await client.source.send(type="hello", positions={"a": [epoch, 9], "b": [epoch, 1]})
        await client.subscribe("a", "b", "c d")
        await harness.publish("b", percent=1)
        await wait_all_tasks_blocked()
        counters = harness.node.counters
        assert counters.protocol_errors == {"invalid_json": 1, "invalid_job": 1}
        assert counters.subscriptions_opened == {True: 2}
        assert {kind.__name__: n for kind, n in counters.commands.items()} == {
            "Hello": 1,
            "Subscribe": 1,
        }
        types = [frame["type"] for frame in client.sink.frames]
        assert sum(counters.messages_sent.values()) == len(types)
        assert counters.messages_sent == {
            "answer": types.count("welcome") + types.count("error") + types.count("subscriptions"),
            "snapshot": 1,  # the first event of b, which was unseen before
            "resync": 2,  # neither position could be continued
        }

    async def test_messages_skipped_for_a_slow_client_are_counted(
        self, autojump_clock: MockClock, harness: Harness
    ) -> None:
        client = await harness.connect()
        await client.source.send(type="hello", max_hz=1)
        await client.subscribe("a")
        for percent in range(10):
            await harness.publish("a", percent=percent)
        await trio.sleep(2)
        for percent in range(10, 15):
            await harness.publish("a", percent=percent)
        await trio.sleep(2)
        steps = [(prev, seq) for prev, seq in client.seen if prev is not None]
        skipped = sum(seq - prev - 1 for prev, seq in steps)
        assert skipped >= 3
        assert harness.node.counters.events_conflated == skipped
        assert harness.node.counters.messages_sent["step"] == len(steps)

    async def test_delivery_times_are_observed(
        self, autojump_clock: MockClock, harness: Harness
    ) -> None:
        client = await harness.connect(SlowSink(takes=2.0))
        client.source.answers_pings = False
        await client.subscribe("a")
        await trio.sleep(28)
        pinged_at = client.sink.times[client.sink.frames.index({"type": "ping"})] - 2
        assert pinged_at == 25
        await trio.sleep(4)
        await client.source.send(type="pong")
        await client.source.send(type="pong")
        await wait_all_tasks_blocked()
        counters = harness.node.counters
        assert counters.ping_round_trips.total == trio.current_time() - pinged_at
        assert sum(counters.ping_round_trips.counts) == 1
        writes, queued = counters.writes, counters.queue_waits.total
        for percent in range(8):
            await harness.publish("a", percent=percent)
            await trio.sleep(1.25)
        await trio.sleep(2.5)
        assert counters.write_durations.total == 2 * sum(counters.write_durations.counts)
        # One begins every 2 s. What it takes has been due since the first update that came
        # while the one before was under way.
        due = {0: 0, 2: 1.25, 4: 2.5, 6: 5, 8: 6.25, 10: 8.75}
        assert counters.writes - writes == len(due)
        timed = [at - due[at] for write, at in enumerate(due, writes) if write % SAMPLE_EVERY == 0]
        assert counters.queue_waits.total - queued == sum(timed) > 0
