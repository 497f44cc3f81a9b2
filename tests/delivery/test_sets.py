"""A client that watches sets, against a node with the memory broker, on a mock clock.

The model test is `test_set_model.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import trio
import trio.testing
from attrs import evolve
from trio.testing import MockClock, wait_all_tasks_blocked

from gateway import Limits, MemoryBroker, Node
from gateway.auth.authenticator import Authenticator
from gateway.auth.key_sources import KeySources
from gateway.delivery.set_registry import NOTIFY_INTERVAL
from gateway.delivery.set_subscription import MAX_DISPLACED
from gateway.model.state import Event, Update
from tests.auth.signing import NOW, SECRET, sign

from ..fakes import FakeSource, Sink, StuckSink
from .harness import Harness, HarnessClient, messages_sent


@pytest.fixture
def limits() -> Limits:
    return Limits(max_sets_per_connection=3, max_set_jobs=6)


async def watch(client: HarnessClient, prefix: str, **more: Any) -> None:
    await client.source.send(type="watch_set", prefix=prefix, **more)
    await messages_sent()


def sets(client: HarnessClient) -> list[tuple[int | None, int, list[str]]]:
    return [(one["prev"], one["seq"], one["jobs"]) for one in client.sink.of("set")]


def kinds(client: HarnessClient, since: int = 0) -> list[str]:
    """The received frames, in order: jobs with their status, and sets."""
    return [
        f"{frame['job']} {frame['state']['status']}" if frame["type"] == "progress" else "set"
        for frame in client.sink.frames[since:]
        if frame["type"] in ("progress", "set")
    ]


async def test_a_set_contains_the_jobs_with_its_prefix_and_their_states(
    autojump_clock: MockClock, harness: Harness
) -> None:
    for job in ("user:7:a", "user:70", "user:8:b", "user:7:c"):
        await harness.publish(job, status="running")
        await trio.sleep(1)
    client = await harness.connect()
    await watch(client, "user:7:")
    [received] = client.sink.of("set")
    assert received == {
        "type": "set",
        "prefix": "user:7:",
        "epoch": received["epoch"],
        "prev": None,
        "seq": 1,
        "snapshot": True,
        "total": 2,
        "counts": {"queued": 0, "running": 2, "succeeded": 0, "failed": 0, "cancelled": 0},
        "jobs": ["user:7:c", "user:7:a"],
    }
    assert kinds(client) == ["set", "user:7:c running", "user:7:a running"]


async def test_jobs_are_ordered_by_status_start_and_end(
    autojump_clock: MockClock, harness: Harness
) -> None:
    client = await harness.connect()
    await watch(client, "j:")
    for job in ("j:1", "j:2", "j:3"):
        await trio.sleep(1)
        await harness.publish(job, status="queued" if job == "j:2" else "running")
    await messages_sent()
    assert sets(client)[-1][2] == ["j:3", "j:2", "j:1"]
    since = len(client.sink.frames)
    await harness.publish("j:3", status="succeeded")
    await messages_sent()
    assert kinds(client, since) == ["j:3 succeeded", "set"]
    assert sets(client)[-1][2] == ["j:2", "j:1", "j:3"]
    await harness.publish("j:1", status="failed")
    await harness.publish("j:2", status="running")
    await messages_sent()
    assert sets(client)[-1][2] == ["j:2", "j:1", "j:3"]
    assert client.sink.of("set")[-1]["counts"]["running"] == 1
    await harness.publish("j:3", start=True)  # its next attempt
    await messages_sent()
    assert sets(client)[-1][2] == ["j:3", "j:2", "j:1"]
    for (_, seq, _), (prev, _, _) in zip(sets(client), sets(client)[1:], strict=False):
        assert prev == seq


async def test_progress_of_a_member_does_not_change_the_set(
    autojump_clock: MockClock, harness: Harness
) -> None:
    client = await harness.connect()
    await watch(client, "")
    await harness.publish("a", percent=1)
    await messages_sent()
    before = len(client.sink.of("set"))
    for percent in range(2, 10):
        await harness.publish("a", percent=percent)
        await messages_sent()
    assert len(client.sink.of("set")) == before
    assert len(client.sink.of("progress")) == 9


async def test_a_set_can_have_statuses_a_limit_and_an_id(
    autojump_clock: MockClock, harness: Harness
) -> None:
    for number in range(5):
        await harness.publish(f"a:{number}", status="failed" if number % 2 else "running")
        await trio.sleep(1)
    client = await harness.connect()
    await watch(client, "a:", id="failed ones", statuses=["failed"])
    await watch(client, "a:", id=2, limit=2)
    first, second = client.sink.of("set")
    assert (first["id"], first["total"], first["jobs"]) == ("failed ones", 2, ["a:3", "a:1"])
    assert (second["id"], second["total"], second["jobs"]) == (2, 5, ["a:4", "a:2"])
    assert first["counts"] == second["counts"]
    # It leaves the one by its end and is shown that, and comes into the other.
    await harness.publish("a:4", status="failed")
    await messages_sent()
    first, second = client.sink.of("set")[-2:]
    assert (first["jobs"], second["jobs"]) == (["a:4", "a:3", "a:1"], ["a:2", "a:0"])
    # Each job's frames follow each other, whichever set shows it.
    assert [seq for prev, seq in client.seen if prev is not None] == [2]


async def test_the_end_of_a_job_that_left_the_view_arrives(
    autojump_clock: MockClock, harness: Harness
) -> None:
    client = await harness.connect()
    await watch(client, "a:", statuses=["running"], limit=1)
    await harness.publish("a:1", status="running")
    await messages_sent()
    await trio.sleep(1)
    await harness.publish("a:2", status="running")  # which displaces it
    await messages_sent()
    assert sets(client)[-1][2] == ["a:2"]
    since = len(client.sink.frames)
    await harness.publish("a:1", percent=50)
    await messages_sent()
    assert kinds(client, since) == [], "it is not shown any more"
    await harness.publish("a:1", status="succeeded")
    await messages_sent()
    assert "a:1 succeeded" in kinds(client, since)
    since = len(client.sink.frames)
    await harness.publish("a:2", status="failed")
    await messages_sent()
    assert kinds(client, since) == ["a:2 failed", "set"]
    assert harness.node.hub.statistics().subscriptions == 0


async def test_a_displaced_job_that_returns_has_one_subscription(
    autojump_clock: MockClock, harness: Harness
) -> None:
    client = await harness.connect()
    await watch(client, "a:", statuses=["running"], limit=1)
    await harness.publish("a:1", status="running")
    await messages_sent()
    await trio.sleep(1)
    await harness.publish("a:2", status="running")
    await messages_sent()
    await harness.publish("a:2", status="succeeded")
    await messages_sent()
    assert sets(client)[-1][2] == ["a:1"]
    await harness.publish("a:1", status="succeeded")
    await messages_sent()
    ends = [kind for kind in kinds(client) if kind.endswith("succeeded")]
    assert ends == ["a:2 succeeded", "a:1 succeeded"]
    assert harness.node.hub.statistics().subscriptions == 0


async def test_a_slow_client_gets_the_newest_set_and_each_end(
    autojump_clock: MockClock, harness: Harness
) -> None:
    sink = StuckSink(writes=3)
    client = await harness.connect(sink)
    await watch(client, "a:", limit=2)
    await harness.publish("a:0", status="running")
    await wait_all_tasks_blocked()
    assert sets(client)[-1][2] == ["a:0"]
    await trio.sleep(1)
    await harness.publish("a:1", percent=1)  # is written, and not taken
    await messages_sent()
    shown = sets(client)[-1][2]
    for number in range(2, 8):
        await trio.sleep(0.1)
        await harness.publish(f"a:{number}", status="running")
        await harness.publish(f"a:{number - 1}", status="succeeded")
    await harness.publish("a:0", status="failed")
    since = len(client.sink.frames)
    sink.writes = 1000
    sink.resume()
    await messages_sent()
    news = kinds(client, since)
    assert news.count("set") <= 3, "the states in between are not told"
    assert "a:0 failed" in news
    assert set(shown) <= {"a:0", "a:1"}
    assert sets(client)[-1][2] == ["a:7", "a:0"]


async def test_a_job_that_is_also_watched_by_name_has_one_position(
    autojump_clock: MockClock, harness: Harness
) -> None:
    await harness.publish("a:1", percent=1)
    client = await harness.connect()
    await watch(client, "a:")
    assert client.seen == [(None, 1)]
    await client.subscribe("a:1")
    assert client.seen == [(None, 1), (None, 1)], "who subscribes is given the state"
    await harness.publish("a:1", percent=2)
    await messages_sent()
    await client.source.send(type="unsubscribe", jobs=["a:1"])
    await messages_sent()
    await harness.publish("a:1", percent=3)
    await messages_sent()
    assert client.seen[2:] == [(1, 2), (None, 2), (2, 3)], "the set still shows it"
    await client.subscribe("a:1")
    await client.source.send(type="unwatch_set", prefix="a:")
    await messages_sent()
    await harness.publish("a:1", percent=4)
    await messages_sent()
    assert client.seen[-1] == (3, 4), "it is still subscribed by its name"
    await client.source.send(type="unsubscribe", jobs=["a:1"])
    await messages_sent()
    await harness.publish("a:1", percent=5)
    await messages_sent()
    assert client.seen[-1] == (3, 4)
    assert harness.node.hub.statistics().subscriptions == 0


async def test_a_client_that_ignored_messages_after_it_unsubscribed_has_the_state_again(
    autojump_clock: MockClock, harness: Harness
) -> None:
    """A page drops what it knows of a job when it unsubscribes, and ignores the job until a set
    contains it. The messages cross: the set contains the job before the gateway has read the
    command."""
    client = await harness.connect()
    await harness.publish("a:1", status="running")
    await client.subscribe("a:1")
    await watch(client, "b:", id=1)
    await harness.publish("a:1", status="succeeded")
    await messages_sent()  # from here on the client ignores the job
    await watch(client, "a:", id=2)
    since = len(client.sink.frames)
    await client.source.send(type="unsubscribe", jobs=["a:1"])
    await messages_sent()
    assert kinds(client, since) == ["a:1 succeeded"]
    assert client.seen[-1] == (None, 2), "a snapshot, which any client accepts"


@pytest.mark.parametrize(
    "command", [{"type": "unwatch_set"}, {"type": "watch_set", "prefix": "b:"}]
)
async def test_a_client_that_ignored_messages_after_it_left_a_set_has_the_state_again(
    autojump_clock: MockClock, harness: Harness, command: dict[str, str]
) -> None:
    client = await harness.connect()
    await harness.publish("a:1", status="running")
    await watch(client, "a:", id=1)
    await watch(client, "a", id=2)
    since = len(client.sink.frames)
    await client.source.send(id=1, **command)
    await messages_sent()
    assert kinds(client, since).count("a:1 running") == 1
    assert client.seen[-1] == (None, 1)
    await harness.publish("a:1", status="succeeded")
    await messages_sent()
    assert client.seen[-1] == (1, 2)


async def test_a_job_of_a_set_is_in_mode_latest_unless_it_is_watched_by_name(
    autojump_clock: MockClock, harness: Harness
) -> None:
    client = await harness.connect()
    await client.source.send(type="hello", max_hz=1)  # so that events are conflated
    await harness.publish("a:1", percent=1)
    await watch(client, "a:")
    await client.subscribe("a:1", mode="every")
    await trio.sleep(2)
    received = []
    for unsubscribes in (False, True):
        if unsubscribes:
            await client.source.send(type="unsubscribe", jobs=["a:1"])
            await trio.sleep(2)  # the snapshot
        before = len(client.seen)
        for _ in range(3):
            await harness.publish("a:1", message=f"{trio.current_time()}")
            await trio.sleep(0.1)
        await trio.sleep(2)
        received.append([seq - (prev or 0) for prev, seq in client.seen[before:]])
    assert received == [[1, 1, 1], [1, 2]]


async def test_unwatch_ends_the_set_and_its_subscriptions(
    autojump_clock: MockClock, harness: Harness
) -> None:
    await harness.publish("a:1", percent=1)
    client = await harness.connect()
    await watch(client, "a:", id=1)
    await watch(client, "a:", id=2, limit=3)
    await watch(client, "a:")
    assert harness.node.hub.statistics().subscriptions == 1
    await client.source.send(type="unwatch_set", id=1)
    await client.source.send(type="unwatch_set", prefix="a:")
    await wait_all_tasks_blocked()
    assert harness.node.hub.statistics().subscriptions == 0
    before = len(client.sink.frames)
    await harness.publish("a:2", percent=1)
    await messages_sent()
    assert len(client.sink.frames) == before
    statistics = harness.node.sets.statistics()
    assert statistics.sets == 1, "it lingers"
    await trio.sleep(harness.node.limits.linger + 2)
    assert harness.node.sets.statistics().sets == 0


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ({"prefix": "a b"}, "invalid_command"),
        ({"prefix": "a:*"}, "invalid_command"),
        ({}, "invalid_command"),
        ({"prefix": "a", "statuses": []}, "invalid_command"),
        ({"prefix": "a", "statuses": ["done"]}, "invalid_command"),
        ({"prefix": "a", "limit": 0}, "invalid_command"),
        ({"prefix": "a", "limit": 201}, "invalid_command"),
        ({"prefix": "a", "status": "running"}, "invalid_command"),
    ],
)
async def test_an_invalid_set_command_gets_an_error_and_changes_nothing(
    autojump_clock: MockClock, harness: Harness, command: dict[str, Any], code: str
) -> None:
    client = await harness.connect()
    await client.source.send(type="watch_set", id=9, **command)
    await messages_sent()
    [error] = client.sink.of("error")
    assert (error["id"], error["code"]) == (9, code)
    assert client.sink.of("set") == []
    assert harness.node.sets.statistics().sets == 0


async def test_the_number_of_sets_per_connection_is_limited(
    autojump_clock: MockClock, harness: Harness
) -> None:
    client = await harness.connect()
    for number in range(4):
        await watch(client, f"{number}:", id=number)
    assert [one["code"] for one in client.sink.of("error")] == ["too_many_sets"]
    await watch(client, "2:", id=2, limit=1)  # one in the place of another is no more
    assert len(client.sink.of("error")) == 1
    await client.source.send(type="unwatch_set", id=0)
    await watch(client, "3:", id=3)
    assert [one["id"] for one in client.sink.of("set")] == [0, 1, 2, 2, 3]


async def test_the_number_of_sets_per_node_is_limited(autojump_clock: MockClock) -> None:
    limits = Limits(max_sets=2)
    async with trio.open_nursery() as nursery:
        harness = Harness(nursery, limits)
        await nursery.start(harness.node.run)
        one, other = await harness.connect(), await harness.connect()
        for client, prefix in ((one, "a:"), (one, "b:"), (other, "a:"), (other, "c:")):
            await watch(client, prefix)
        assert [error["code"] for error in other.sink.of("error")] == ["node_full"]
        await one.source.send(type="unwatch_set", prefix="b:")
        await watch(other, "c:")
        assert [one["prefix"] for one in other.sink.of("set")] == ["a:", "c:"]
        nursery.cancel_scope.cancel()


async def test_the_set_quota_of_one_address_leaves_sets_for_others(
    autojump_clock: MockClock,
) -> None:
    limits = Limits(max_sets=6, max_sets_per_address=3)
    async with trio.open_nursery() as nursery:
        harness = Harness(nursery, limits)
        await nursery.start(harness.node.run)
        eve, eve_again = [await harness.connect(address="192.0.2.1") for _ in range(2)]
        for number in range(2):
            await watch(eve, f"never:{number}:")
            await watch(eve_again, f"never:{number + 2}:")
        assert [error["code"] for error in eve_again.sink.of("error")] == ["share_full"]
        bob = await harness.connect(address="192.0.2.2")
        for prefix in ("never:0:", "mine:0:", "mine:1:"):
            await watch(bob, prefix)
        assert bob.sink.of("error") == []
        await eve.source.send(type="unwatch_set", prefix="never:0:")  # counts for bob from now on
        await watch(bob, "mine:2:")
        assert [error["code"] for error in bob.sink.of("error")] == ["share_full"]
        await watch(eve, "never:4:")
        assert eve.sink.of("error") == []
        for client in (eve, eve_again, bob):
            client.source.hang_up()
            await client.ended.wait()
        last = await harness.connect(address="192.0.2.2")
        for number in range(4):
            await watch(last, f"last:{number}:")
        assert [error["code"] for error in last.sink.of("error")] == ["share_full"]
        assert len(last.sink.of("set")) == 3
        nursery.cancel_scope.cancel()


async def test_a_set_beyond_its_limit_keeps_the_newest_jobs_and_has_more(
    autojump_clock: MockClock, harness: Harness
) -> None:
    for number in range(8):
        await harness.publish(f"a:{number}", status="running")
        await trio.sleep(1)
    client = await harness.connect()
    await watch(client, "a:")
    received = client.sink.of("set")[-1]
    assert (received["total"], received["more"]) == (6, True)
    assert received["jobs"] == [f"a:{number}" for number in range(7, 1, -1)]
    await harness.publish("a:0", percent=1)
    await messages_sent()
    received = client.sink.of("set")[-1]
    assert received["jobs"] == ["a:7", "a:6", "a:5", "a:4", "a:3", "a:0"]
    await trio.sleep(harness.node.limits.compare_interval * 1.3)  # and the same after another scan
    await messages_sent()
    assert client.sink.of("set")[-1]["jobs"] == ["a:7", "a:6", "a:5", "a:4", "a:3", "a:0"]


async def test_the_number_of_jobs_in_all_sets_is_limited(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        harness = Harness(nursery, Limits(total_set_jobs=10))
        await nursery.start(harness.node.run)
        client = await harness.connect()
        await watch(client, "a:")
        await watch(client, "b:")
        for number in range(3):
            await harness.publish(f"b:{number}", status="running")
        for number in range(20):
            await harness.publish(f"a:{number}", status="running")
            await trio.sleep(1)
        await messages_sent()
        assert harness.node.sets.statistics().jobs <= 10
        last = {one["prefix"]: one for one in client.sink.of("set")}
        assert last["b:"]["total"] == 3, "the other one is as it was"
        assert "more" not in last["b:"]
        assert last["a:"]["more"]
        nursery.cancel_scope.cancel()


async def test_a_job_that_the_broker_has_dropped_leaves_the_set(autojump_clock: MockClock) -> None:
    limits = Limits(retention=60, ping_interval=1_000)
    async with trio.open_nursery() as nursery:
        harness = Harness(nursery, limits)
        await nursery.start(harness.node.run)
        client = await harness.connect()
        await watch(client, "a:")
        await harness.publish("a:1", status="succeeded")
        await messages_sent()
        assert sets(client)[-1][2] == ["a:1"]
        await trio.sleep(65 + limits.compare_interval * 1.3)
        assert sets(client)[-1][2] == []
        nursery.cancel_scope.cancel()


async def test_clients_share_the_encoded_set(autojump_clock: MockClock, harness: Harness) -> None:
    clients = [await harness.connect() for _ in range(3)]
    for client in clients:
        await watch(client, "a:")
    await harness.publish("a:1", status="running")
    await messages_sent()
    first, *others = [client.sink.of("set")[-1] for client in clients]
    assert others == [first, first]


async def test_watchers_are_notified_at_most_once_per_interval(
    autojump_clock: MockClock, harness: Harness
) -> None:
    client = await harness.connect()
    await watch(client, "a:")
    before, began = len(client.sink.of("set")), trio.current_time()
    for number in range(50):
        await harness.publish(f"a:{number % 6}", status="running", start=True)
        await wait_all_tasks_blocked()
        await trio.sleep(NOTIFY_INTERVAL / 10)
    await messages_sent()
    most = (trio.current_time() - began) / NOTIFY_INTERVAL + 2
    assert 1 <= len(client.sink.of("set")) - before <= most


async def test_the_number_of_displaced_jobs_is_limited(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, limits: Limits
) -> None:
    monkeypatch.setattr("gateway.delivery.set_subscription.MAX_DISPLACED", 2)
    assert MAX_DISPLACED > 2
    async with trio.open_nursery() as nursery:
        harness = Harness(nursery, evolve(limits, max_set_jobs=100))
        await nursery.start(harness.node.run)
        client = await harness.connect()
        await watch(client, "a:", statuses=["running"], limit=1)
        for number in range(5):
            await harness.publish(f"a:{number}", status="running")
            await trio.sleep(1)
        for number in range(4):
            await harness.publish(f"a:{number}", status="succeeded")
            await messages_sent()
        ends = [kind for kind in kinds(client) if kind.endswith("succeeded")]
        assert ends == ["a:2 succeeded", "a:3 succeeded"], "those that left last"
        nursery.cancel_scope.cancel()


async def hold_back_reads(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> trio.Event:
    """The broker answers reads of jobs only after the returned event."""
    answers = trio.Event()
    read = harness.broker.read

    async def read_later(jobs: Sequence[str]) -> dict[str, Event]:
        await answers.wait()
        return await read(jobs)

    monkeypatch.setattr(harness.broker, "read", read_later)
    return answers


async def test_a_client_that_leaves_before_an_end_was_read_keeps_no_subscription(
    autojump_clock: MockClock, harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job has left the set by its end, and its final state cannot be sent yet."""
    await harness.publish("a", percent=1)
    await hold_back_reads(harness, monkeypatch)
    client = await harness.connect()
    await watch(client, "a", statuses=["running"])
    await harness.publish("a", status="succeeded")
    await messages_sent()
    assert [jobs for _, _, jobs in sets(client)] == [["a"], []]
    assert harness.node.statistics().hub.subscriptions == 1  # the end is still to be sent
    client.source.hang_up()
    await wait_all_tasks_blocked()
    assert harness.node.statistics().hub.subscriptions == 0


async def test_an_end_that_is_read_late_is_sent_and_then_unsubscribed(
    autojump_clock: MockClock, harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await harness.publish("a", percent=1)
    answers = await hold_back_reads(harness, monkeypatch)
    client = await harness.connect()
    await watch(client, "a", statuses=["running"])
    await harness.publish("a", status="succeeded")
    await messages_sent()
    answers.set()
    await messages_sent()
    assert kinds(client)[-1] == "a succeeded"
    assert harness.node.statistics().hub.subscriptions == 0


async def test_an_end_that_is_read_late_arrives_after_the_only_other_set_was_unwatched(
    autojump_clock: MockClock, harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await harness.publish("a", percent=1)
    answers = await hold_back_reads(harness, monkeypatch)
    client = await harness.connect()
    await watch(client, "a", id=1, statuses=["running"])
    await watch(client, "a", id=2)
    await harness.publish("a", status="succeeded")
    await messages_sent()
    await client.source.send(type="unwatch_set", id=2)
    await messages_sent()
    answers.set()
    await messages_sent()
    assert kinds(client)[-1] == "a succeeded"
    assert harness.node.statistics().hub.subscriptions == 0


async def test_an_end_that_is_read_late_is_not_sent_to_who_may_not_watch_the_job_any_more(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker, answers = MemoryBroker(), trio.Event()
    authenticator = Authenticator(KeySources(secret=SECRET), clock=lambda: NOW)
    node = Node(broker, authenticator=authenticator)
    read = broker.read

    async def read_later(jobs: Sequence[str]) -> dict[str, Event]:
        await answers.wait()
        return await read(jobs)

    monkeypatch.setattr(broker, "read", read_later)
    source, sink = FakeSource(), Sink()
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        nursery.start_soon(node.serve, source, sink)
        await broker.publish("a", Update(percent=1))
        claims = {"exp": NOW + 1_000}
        await source.send(type="hello", token=sign(claims | {"watch": ["a*"]}))
        await source.send(type="watch_set", prefix="a", statuses=["running"])
        await messages_sent()
        await broker.publish("a", Update(status="succeeded"))
        await messages_sent()
        assert [frame["jobs"] for frame in sink.frames if frame["type"] == "set"] == [["a"], []]
        await source.send(type="hello", token=sign(claims | {"watch": ["b*"]}))
        await messages_sent()
        answers.set()
        await messages_sent()
        assert not [frame for frame in sink.frames if frame["type"] == "progress"]
        assert node.statistics().hub.subscriptions == 0
        nursery.cancel_scope.cancel()


async def test_unwatching_a_prefix_leaves_other_sets(
    autojump_clock: MockClock, harness: Harness
) -> None:
    client = await harness.connect()
    await watch(client, "a:")
    await watch(client, "b:")
    await client.source.send(type="unwatch_set", prefix="a:")
    await wait_all_tasks_blocked()
    await harness.publish("b:1", percent=1)
    await messages_sent()
    assert sets(client)[-1][2] == ["b:1"]


async def test_a_set_that_is_watched_again_keeps_no_idle_set_in_memory(
    autojump_clock: MockClock, harness: Harness
) -> None:
    client = await harness.connect()
    await watch(client, "a:")
    for command in ("unwatch_set", "watch_set"):
        await client.source.send(type=command, prefix="a:")
        await messages_sent()
    await watch(client, "b:")
    await client.source.send(type="unwatch_set", prefix="b:")
    await messages_sent()
    assert harness.node.sets.statistics().sets == 2
    await trio.sleep(harness.node.limits.linger + 2)
    assert harness.node.sets.statistics().sets == 1


@pytest.mark.parametrize("limits", [Limits(max_topics=4)])  # with the probe's
async def test_a_job_that_there_is_no_room_for_is_denied_alone(
    autojump_clock: MockClock, harness: Harness
) -> None:
    """The rest of the connection goes on, and the set tries the job again when it changes."""
    for number in (1, 2, 3):
        await harness.publish(f"x:{number}", status="running")
        await trio.sleep(1)
    other, client = await harness.connect(), await harness.connect()
    await other.subscribe("other")
    await watch(client, "x:", statuses=["running"])
    assert sets(client) == [(None, 1, ["x:3", "x:2", "x:1"])]
    assert kinds(client) == ["set", "x:3 running", "x:2 running"]
    [denial] = client.sink.of("subscriptions")
    assert (denial["id"], denial["denied"]) == (None, {"x:1": "node_full"})
    frames = [frame["type"] for frame in client.sink.frames]
    assert frames.index("subscriptions") > frames.index("set")

    since = len(client.sink.frames)
    await harness.publish("x:4", status="running")
    await messages_sent()
    assert kinds(client, since) == ["set"]
    assert client.sink.of("subscriptions")[-1]["denied"] == {"x:4": "node_full"}

    since = len(client.sink.frames)
    await other.source.send(type="unsubscribe", jobs=["other"])
    await harness.publish("x:3", status="succeeded")
    await messages_sent()
    assert kinds(client, since) == ["x:3 succeeded", "set", "x:4 running", "x:1 running"]
    assert len(client.sink.of("subscriptions")) == 2
    assert client.sink.close_code is None


@pytest.mark.parametrize("limits", [Limits(max_topics=2)])  # with the probe's
async def test_the_end_of_a_displaced_job_without_room_is_denied(
    autojump_clock: MockClock, harness: Harness
) -> None:
    await harness.publish("x:1", status="running")
    client = await harness.connect()
    await watch(client, "x:", limit=1)
    await trio.sleep(1)
    await harness.publish("x:2", status="running")
    await messages_sent()
    assert kinds(client) == ["set", "x:1 running", "set", "x:2 running"]
    since = len(client.sink.frames)
    await harness.publish("x:1", status="succeeded")
    await messages_sent()
    assert kinds(client, since) == ["set"]
    assert client.sink.of("subscriptions")[-1]["denied"] == {"x:1": "node_full"}


async def test_a_position_of_hello_is_used_for_the_first_set_only(
    autojump_clock: MockClock, harness: Harness
) -> None:
    """The client forgets jobs that have ended and that the set does not show."""
    ended = await harness.publish("x:1", status="failed")
    running = await harness.publish("x:2", status="running")
    await harness.publish("x:2", percent=10)
    client = await harness.connect()
    await client.source.send(type="hello", positions={"x:1": [*ended], "x:2": [*running]})
    await watch(client, "x:", statuses=["running"])
    await harness.publish("x:1", start=True, run="again")
    await messages_sent()
    assert [(frame["job"], frame["prev"]) for frame in client.sink.of("progress")] == [
        ("x:2", running.seq),
        ("x:1", None),
    ]
