"""Two nodes on one real Redis: reports to either node reach the clients of both."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from typing import Any

import pytest
import trio

from tests.brokers.redis.server import Server, redis_server
from tests.cli.conftest import address
from tests.cli.processes import GATEWAY, Running

from .client import PATIENCE, Follower, is_final, open_client


def node(redis_url: str, *flags: str) -> Running:
    env = {"PROGRESS_GATEWAY_REDIS": redis_url}
    return Running(*GATEWAY, "serve", "--bind", "127.0.0.1:0", *flags, env=env)


async def publish(url: str, job: str, **fields: Any) -> dict[str, Any]:
    """Sends one update over HTTP."""

    def post() -> dict[str, Any]:
        body = json.dumps(fields).encode()
        with urllib.request.urlopen(f"{url}/api/jobs/{job}", body, timeout=PATIENCE) as answer:  # noqa: S310 - ours
            received: dict[str, Any] = json.load(answer)
            return received

    return await trio.to_thread.run_sync(post)


async def cancel(url: str, job: str) -> bool:
    """Requests to cancel a job. Returns whether the request was stored."""
    try:
        answer = await publish(url, f"{job}/requests", verb="cancel", attempt=1)
    except urllib.error.HTTPError as error:
        if json.load(error)["code"] != "final":
            raise
        return False
    return bool(answer["applied"])


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


async def test_a_job_reported_to_one_node_is_shown_by_both() -> None:
    redis = Server(redis_server())
    try:
        with (
            node(redis.url) as first,
            node(redis.url) as second_node,
            trio.fail_after(4 * PATIENCE),
        ):
            first_address, second_address = address(first), address(second_node)
            await publish(first_address, "video:42", total=4, done=1, message="ü \u2028")
            follower = Follower()
            async with open_client(port_of(second_address)) as client:
                await client.receive_type("welcome")
                await client.request("subscribe", jobs=["video:42"])
                follower.take(await client.receive())
                for done in (2, 3):
                    await publish(
                        first_address if done == 2 else second_address, "video:42", done=done
                    )
                    follower.take(await client.receive())
                second_node.process.kill()
            # The node has ended; the client connects to the other one with its position.
            epoch, seq = follower.at["video:42"]
            await publish(first_address, "video:42", status="succeeded")
            async with open_client(port_of(first_address)) as client:
                await client.receive_type("welcome")
                await client.send("hello", positions={"video:42": [epoch, seq]})
                await client.request("subscribe", jobs=["video:42"])
                frame = await client.receive()
                assert (frame["prev"], frame["seq"]) == (seq, seq + 1)
                follower.take(frame)
                assert is_final(frame["state"])
            second_node.end()
    finally:
        redis.close()


async def test_readiness_depends_on_redis() -> None:
    redis = Server(redis_server())
    try:
        with node(redis.url) as only, trio.fail_after(4 * PATIENCE):
            url = address(only)

            def readiness() -> int:
                try:
                    with urllib.request.urlopen(f"{url}/readyz", timeout=PATIENCE) as answer:  # noqa: S310 - ours
                        return int(answer.status)
                except urllib.error.HTTPError as error:
                    with error:
                        return error.code

            async def becomes(status: int) -> None:
                # There is no notification, so poll like a load balancer.
                while await trio.to_thread.run_sync(readiness) != status:  # noqa: ASYNC110 - of another process
                    await trio.sleep(0.05)

            await becomes(200)
            redis.kill()
            await becomes(503)
            redis.start()
            await becomes(200)
            assert (await publish(url, "video:42", percent=5))["applied"]
    finally:
        redis.close()


async def test_hypercorn_uses_redis_too() -> None:
    redis = Server(redis_server())
    command = [
        *(sys.executable, "-m", "hypercorn", "-k", "trio", "-b", "127.0.0.1:0"),
        *("--error-logfile", "/dev/stdout", "gateway.asgi:app"),
    ]
    try:
        with Running(*command, env={"PROGRESS_GATEWAY_REDIS": redis.url}) as stock:
            output = await trio.to_thread.run_sync(stock.until, "CTRL + C")
            url = next(word for word in output.split() if word.startswith("http://"))
            await publish(url, "video:42", percent=5)
            assert redis.client.hget("progress:last:video:42", "percent") == b"5"
    finally:
        redis.close()


def test_an_unreachable_redis_is_reported_in_one_line() -> None:
    with node("redis://127.0.0.1:1", "--exit-if-unavailable") as refused_node:
        assert refused_node.end() == 3
        assert "--redis (PROGRESS_GATEWAY_REDIS): Redis:" in refused_node.errors
        assert "Traceback" not in refused_node.errors


@pytest.mark.parametrize("url", ["localhost:6379", "http://x", "redis://"])
def test_an_invalid_url_is_named(url: str) -> None:
    with node(url) as refused_node:
        assert refused_node.end() == 2
        assert "--redis" in refused_node.errors


RACES = 40


async def test_a_stop_button_and_an_end_at_the_same_time_are_one_end_at_all_clients() -> None:
    """Both nodes are asked to cancel, the worker succeeds, and a process that has received a
    request is cancelled. A client of each node, which watches all jobs, receives the same end."""
    redis = Server(redis_server())
    jobs = [f"race:{number}" for number in range(RACES)]
    ends: tuple[dict[str, Any], dict[str, Any]] = ({}, {})

    async def watch(
        node: int, url: str, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        follower = Follower()
        async with open_client(port_of(url), patience=4 * PATIENCE) as client:
            await client.receive_type("welcome")
            await client.request("watch_set", prefix="race:", limit=200)
            task_status.started()
            while len(ends[node]) < RACES:
                frame = await client.receive_type("progress")
                follower.take(frame)
                if is_final(frame["state"]):
                    assert frame["job"] not in ends[node], "a second end"
                    ends[node][frame["job"]] = frame

    async def race(job: str, urls: list[str]) -> None:
        first_url, second_url = urls
        await publish(first_url, job, start=True, run="r", accepts=["cancel"])
        won: list[str] = []
        stored: list[str] = []

        async def end(url: str, status: str) -> None:
            answer = await publish(url, job, run="r", attempt=1, status=status)
            won.extend([status] * answer["applied"])

        async def send_cancel(url: str) -> None:
            if await cancel(url, job):
                stored.append(url)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_cancel, first_url)
            nursery.start_soon(end, second_url, "succeeded")
            nursery.start_soon(end, first_url, "cancelled")
            nursery.start_soon(send_cancel, second_url)
        assert len(won) == 1
        assert len(stored) <= 1, "the second of two cancels changes nothing"
        winners[job] = won[0]

    winners: dict[str, str] = {}
    try:
        with node(redis.url) as first, node(redis.url) as second, trio.fail_after(12 * PATIENCE):
            urls = [address(first), address(second)]
            async with trio.open_nursery() as nursery:
                for number, url in enumerate(urls):
                    await nursery.start(watch, number, url)
                for job in jobs:
                    await race(job, urls)
    finally:
        redis.close()
    positions = [{job: (f["epoch"], f["seq"]) for job, f in frames.items()} for frames in ends]
    assert positions[0] == positions[1]
    for frames in ends:
        assert {job: frame["state"]["status"] for job, frame in frames.items()} == winners
