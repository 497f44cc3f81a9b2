"""The rules of `docs/protocol.md`, over each transport, with a client that only parses JSON."""

from __future__ import annotations

import signal
from typing import Any

import httpx
import pytest
import trio

from gateway import Limits
from gateway.model.constants import MAX_SET_LIMIT

from .client import PATIENCE, Follower, Json, WebSocketClient, command, frame, is_final, open_client
from .hosts import Host, in_process, printed

JOB = "video:42"
STORM = 3_000
NO_CHANGE: Json = {"added": [], "removed": [], "denied": {}}


async def publish_storm(host: Host, job: str = JOB, count: int = STORM) -> None:
    """Publishes `count` updates as fast as the broker takes them, the last one final."""
    for done in range(1, count):
        await host.publish(job, done=done, total=count)
    await host.publish(job, status="succeeded", done=count)


async def receive_welcome(client: WebSocketClient) -> WebSocketClient:
    assert (await client.receive())["type"] == "welcome"
    return client


async def test_welcome_has_the_limits(host: Host, limits: Limits) -> None:
    async with open_client(host.port) as client:
        welcome = await client.receive()
        assert welcome["type"] == "welcome"
        assert welcome["limits"] == {
            "jobs": limits.max_jobs_per_connection,
            "message": limits.max_frame,
        }
        assert welcome["ping_interval"] == limits.ping_interval
        assert welcome["retry"] == list(limits.reconnect_window)
        assert isinstance(welcome["node"], str)
        assert isinstance(welcome["time"], float)


async def test_a_ping_is_answered(host: Host) -> None:
    async with open_client(host.port) as client:
        await receive_welcome(client)
        assert await client.request("ping") == {"type": "pong"}
        await client.close()


async def test_a_repeated_sync_changes_nothing(host: Host) -> None:
    async with open_client(host.port) as client:
        await receive_welcome(client)
        answer = await client.request("sync_subscriptions", id=1, jobs=["a", "b", "a"])
        assert answer == {
            "type": "subscriptions",
            "id": 1,
            "added": ["a", "b"],
            "removed": [],
            "unchanged": 0,
            "denied": {},
        }
        assert {(await client.receive())["job"], (await client.receive())["job"]} == {"a", "b"}
        answer = await client.request("sync_subscriptions", id="two", jobs=["b", "a"])
        assert answer == {"type": "subscriptions", "id": "two", "unchanged": 2} | NO_CHANGE
        answer = await client.request("sync_subscriptions", jobs=["b", "not a job"])
        assert answer == {
            "type": "subscriptions",
            "id": None,
            "added": [],
            "removed": ["a"],
            "unchanged": 1,
            "denied": {"not a job": "invalid_job"},
        }
        assert await client.request("ping") == {"type": "pong"}


async def test_a_snapshot_is_sent_immediately_or_null_for_an_unknown_job(host: Host) -> None:
    await host.publish(JOB, percent=25, message="half of a half")
    async with open_client(host.port) as client:
        await receive_welcome(client)
        await client.request("subscribe", jobs=[JOB])
        snapshot = await client.receive()
        assert (snapshot["job"], snapshot["prev"], snapshot["seq"]) == (JOB, None, 1)
        assert snapshot["snapshot"] is True
        assert snapshot["state"]["percent"] == 25
        assert snapshot["state"]["message"] == "half of a half"
        await client.request("subscribe", jobs=["new"])
        assert await client.receive() == {
            "type": "progress",
            "job": "new",
            "epoch": None,
            "prev": None,
            "seq": 0,
            "snapshot": True,
            "state": None,
        }
        await host.publish("new", percent=1)
        first_frame = await client.receive()
        assert (first_frame["prev"], first_frame["seq"], first_frame["snapshot"]) == (None, 1, True)


@pytest.mark.parametrize("subprotocol", [None, "progress.v1"])
async def test_the_end_arrives_after_any_number_of_updates(
    host: Host, subprotocol: str | None
) -> None:
    async with open_client(host.port, subprotocol=subprotocol) as client, trio.open_nursery() as n:
        await receive_welcome(client)
        await client.request("subscribe", jobs=[JOB])
        n.start_soon(publish_storm, host)
        follower = Follower()
        await follower.follow(client, is_final)
        state = follower.states[JOB]
        assert state is not None
        assert (state["status"], state["done"], state["percent"]) == ("succeeded", STORM, 100)
        assert follower.at[JOB][1] == STORM
        assert await client.request("ping") == {"type": "pong"}


# Without this folder's short deadlines, because another server is slow with so many frames.
@pytest.mark.parametrize("limits", [Limits(shutdown_timeout=2.0)])
@pytest.mark.parametrize("subprotocol", [None, "progress.v1"])
async def test_mode_every_gets_each_event_once_in_order(
    host: Host, subprotocol: str | None
) -> None:
    async with open_client(host.port, subprotocol=subprotocol) as client, trio.open_nursery() as n:
        await receive_welcome(client)
        await client.request("subscribe", jobs=[JOB], mode="every")
        n.start_soon(publish_storm, host)
        follower = Follower()
        await follower.follow(client, is_final)
        first_seq = follower.steps[0][1]
        assert first_seq <= 1
        assert [seq for _, seq in follower.steps] == list(range(first_seq, STORM + 1))


@pytest.mark.parametrize("limits", [Limits(job_replay_bytes=1_000, history=100)])
async def test_mode_every_continues_from_the_history_or_after_a_gap(
    host: Host, limits: Limits
) -> None:
    position = (await host.publish(JOB, done=1)).position
    async with open_client(host.port) as watcher:  # keeps the topic, and so its small ring
        await receive_welcome(watcher)
        await watcher.request("subscribe", jobs=[JOB])
        for done in range(2, 101):
            await host.publish(JOB, done=done)
        await watcher.receive_until(lambda object_: object_.get("seq") == 100)

        async with open_client(host.port) as client:
            await receive_welcome(client)
            await client.send("hello", positions={JOB: position})
            await client.request("subscribe", jobs=[JOB], mode="every")
            follower = Follower({JOB: (position.epoch, 1)})
            await follower.follow(client, lambda state: state["done"] == 100)
            assert follower.steps == [(seq - 1, seq) for seq in range(2, 101)]

        for done in range(101, 201):
            await host.publish(JOB, done=done)
        await watcher.receive_until(lambda object_: object_.get("seq") == 200)
        async with open_client(host.port) as client:
            await receive_welcome(client)
            await client.send("hello", positions={JOB: [position.epoch, 20]})
            await client.request("subscribe", jobs=[JOB], mode="every")
            assert await client.receive() == {
                "type": "gap",
                "job": JOB,
                "epoch": position.epoch,
                "from": 21,
                "to": 199,
            }
            snapshot = await client.receive()
            assert (snapshot["prev"], snapshot["seq"]) == (None, 200)
            await host.publish(JOB, done=201)
            after = await client.receive()
            assert (after["prev"], after["seq"]) == (200, 201)


async def test_two_connections_of_one_user_are_independent(host: Host) -> None:
    async with open_client(host.port) as first_client, open_client(host.port) as second_client:
        await receive_welcome(first_client)
        await receive_welcome(second_client)
        for client in (first_client, second_client):
            answer = await client.request("sync_subscriptions", jobs=[JOB])
            assert answer["added"] == [JOB]
            await client.receive()
        await first_client.request("sync_subscriptions", jobs=[])
        await first_client.close()
        await host.publish(JOB, percent=1)
        assert (await second_client.receive())["state"]["percent"] == 1


async def test_a_reconnect_continues_at_its_position(host: Host) -> None:
    epoch = (await host.publish(JOB, percent=1)).position.epoch

    async def positions_of_a_new_connection(client: WebSocketClient, position: list[int]) -> Any:
        await receive_welcome(client)
        await client.send("hello", positions={JOB: position})
        assert (await client.request("subscribe", jobs=[JOB]))["added"] == [JOB]

    async with open_client(host.port) as client:  # older position: a frame that continues it
        await host.publish(JOB, percent=2)
        await host.publish(JOB, percent=3)
        await positions_of_a_new_connection(client, [epoch, 1])
        frame_ = await client.receive()
        assert (frame_["prev"], frame_["seq"], frame_["epoch"]) == (1, 3, epoch)
        assert "snapshot" not in frame_

    async with open_client(host.port) as client:  # newest position: nothing until the next event
        await positions_of_a_new_connection(client, [epoch, 3])
        assert await client.request("ping") == {"type": "pong"}
        await host.publish(JOB, percent=4)
        frame_ = await client.receive()
        assert (frame_["prev"], frame_["seq"]) == (3, 4)

    for position in (
        [epoch - 1, 2],
        [epoch + 1, 2],
        [epoch, 99],
    ):  # position of another epoch: a snapshot
        async with open_client(host.port) as client:
            await positions_of_a_new_connection(client, position)
            frame_ = await client.receive()
            assert (frame_["prev"], frame_["seq"], frame_["snapshot"]) == (None, 4, True)


async def test_several_objects_per_frame_only_with_the_subprotocol(host: Host) -> None:
    jobs = [f"job:{number}" for number in range(50)]
    for job in jobs:
        await host.publish(job, percent=1, message="a line\nand another")

    async def frames_of_snapshots(client: WebSocketClient) -> list[int]:
        await client.send("subscribe", jobs=jobs)
        for _ in jobs:
            await client.receive_type("progress")
        return [len(frame_.objects) for frame_ in client.frames]

    async with open_client(host.port, subprotocol="other, progress.v1") as client:
        assert client.subprotocol == "progress.v1"
        sizes = await frames_of_snapshots(client)
        assert sizes[0] == 1  # welcome
        assert max(sizes) > 1
    async with open_client(host.port) as client:
        assert client.subprotocol is None
        assert set(await frames_of_snapshots(client)) == {1}
    async with open_client(host.port, subprotocol="other") as client:
        assert client.subprotocol is None
        assert set(await frames_of_snapshots(client)) == {1}


async def test_max_hz_limits_the_rate_and_the_end_arrives(host: Host) -> None:
    rate = 50
    async with open_client(host.port) as client, trio.open_nursery() as nursery:
        await receive_welcome(client)
        await client.send("hello", max_hz=rate)
        await client.request("subscribe", jobs=[JOB])
        follower = Follower()
        follower.take(await client.receive())
        nursery.start_soon(publish_until, host, done := trio.Event())
        began = trio.current_time()
        for _ in range(6):
            follower.take(await client.receive_type("progress"))
        # Five intervals of 20 ms; without the limit it takes a few ms in all.
        assert trio.current_time() - began > 2.5 / rate
        done.set()
        await follower.follow(client, is_final)


async def publish_until(host: Host, done: trio.Event) -> None:
    count = 0
    while not done.is_set():
        count += 1
        await host.publish(JOB, done=count)
    await host.publish(JOB, status="cancelled")


@pytest.mark.parametrize(
    ("text", "code", "named"),
    [
        ('{"type":"hello"', "invalid_json", ""),
        ("nonsense", "invalid_json", ""),
        ('{"type":"ping","x":' + "[" * 5_000, "invalid_json", ""),
        ("", "invalid_json", ""),
        ("[]", "invalid_command", "object"),
        ("{}", "unknown_type", "type"),
        ('{"type":"shutdown"}', "unknown_type", "shutdown"),
        ('{"type":7}', "unknown_type", "type"),
        ('{"type":"subscribe"}', "invalid_command", "jobs"),
        ('{"type":"subscribe","jobs":"a"}', "invalid_command", "jobs"),
        ('{"type":"subscribe","jobs":["a",1]}', "invalid_command", "jobs"),
        ('{"type":"subscribe","jobs":["a"],"mode":"some"}', "invalid_command", "mode"),
        ('{"type":"hello","max_hz":0}', "invalid_command", "max_hz"),
        ('{"type":"hello","max_hz":1e999}', "invalid_command", "max_hz"),
        ('{"type":"hello","positions":{"a":[1]}}', "invalid_command", "positions"),
    ],
)
async def test_an_invalid_command_is_named_and_the_connection_stays(
    host: Host, text: str, code: str, named: str
) -> None:
    async with open_client(host.port) as client:
        await receive_welcome(client)
        await client.raw.send(frame(text))
        error = await client.receive()
        assert (error["type"], error["code"]) == ("error", code)
        assert named in error["message"]
        assert await client.request("ping") == {"type": "pong"}


async def test_unknown_fields_are_ignored(host: Host) -> None:
    async with open_client(host.port) as client:
        await receive_welcome(client)
        assert await client.request("ping", colour="blue") == {"type": "pong"}


async def test_no_frame_follows_an_unsubscribe(host: Host) -> None:
    async with open_client(host.port) as client:
        await receive_welcome(client)
        await client.request("subscribe", jobs=[JOB, "other"])
        await client.receive()
        await client.receive()
        answer = await client.request("unsubscribe", id=9, jobs=[JOB, "never"])
        assert (answer["id"], answer["removed"]) == (9, [JOB])
        await host.publish(JOB, percent=50)
        await host.publish("other", percent=50)
        assert (await client.receive())["job"] == "other"
        assert await client.request("ping") == {"type": "pong"}
        await client.request("subscribe", jobs=[JOB])
        assert (await client.receive())["snapshot"] is True


@pytest.mark.parametrize("limits", [Limits(max_jobs_per_connection=2, max_sets_per_connection=1)])
async def test_jobs_beyond_the_limit_are_denied(host: Host, limits: Limits) -> None:
    async with open_client(host.port) as client:
        await receive_welcome(client)
        answer = await client.request("subscribe", jobs=["a", "b", "c"])
        assert (answer["added"], answer["denied"]) == (["a", "b"], {"c": "too_many_jobs"})
        await client.receive()
        await client.receive()
        answer = await client.request("sync_subscriptions", jobs=["c", "b"])  # room again
        assert (answer["added"], answer["removed"], answer["denied"]) == (["c"], ["a"], {})
        await client.receive()
        jobs = range(2 + MAX_SET_LIMIT + 1)  # as many as may be subscribed and shown, and one
        await client.send("hello", positions={f"job:{number}": [1, 1] for number in jobs})
        error = await client.receive()
        assert (error["type"], error["code"]) == ("error", "invalid_command")


async def test_a_close_is_answered(host: Host) -> None:
    async with open_client(host.port) as client:
        await receive_welcome(client)
        await client.close()


async def test_an_unknown_path_gets_a_close_code(host: Host) -> None:
    for path in ("/", "/wss", "/ws/", "/api/jobs"):
        async with open_client(host.port, path=path) as client:
            assert await client.close_code() == 4504
    async with open_client(host.port, path="/ws?page=1") as client:
        await receive_welcome(client)


async def test_several_commands_in_one_segment_are_answered(host: Host) -> None:
    async with open_client(host.port) as client:
        await receive_welcome(client)
        await client.raw.send(command("ping") * 20)
        for _ in range(20):
            assert await client.receive() == {"type": "pong"}


async def test_the_protocol_works_under_hypercorn() -> None:
    """The command of the README serves in a process of its own."""
    arguments = ["-m", "hypercorn", "-k", "trio", "gateway.asgi:app", "--bind", "127.0.0.1:0"]
    arguments += ["--graceful-timeout", "0"]
    async with in_process(*arguments) as process:
        line = await printed(process, b"Running on")
        port = int(line.partition(b"http://127.0.0.1:")[2].split()[0])
        async with (
            open_client(port, subprotocol="progress.v1") as client,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http,
        ):
            await receive_welcome(client)
            await client.request("subscribe", jobs=[JOB])
            assert (await client.receive())["state"] is None
            answer = await http.post(f"/api/jobs/{JOB}", json={"percent": 37})
            assert answer.json()["applied"] is True
            assert (await client.receive())["state"]["percent"] == 37
            assert (await http.get("/readyz")).status_code == 200
            process.send_signal(signal.SIGTERM)
            # hypercorn disconnects its clients before it tells the application to end.
            assert await client.close_code() is None
        with trio.fail_after(PATIENCE):
            assert await process.wait() == 0
