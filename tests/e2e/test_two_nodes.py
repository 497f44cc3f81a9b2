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


async def tell(url: str, job: str, **fields: Any) -> dict[str, Any]:
    """One update over HTTP."""

    def post() -> dict[str, Any]:
        body = json.dumps(fields).encode()
        with urllib.request.urlopen(f"{url}/api/jobs/{job}", body, timeout=PATIENCE) as answer:  # noqa: S310 - ours
            received: dict[str, Any] = json.load(answer)
            return received

    return await trio.to_thread.run_sync(post)


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


async def test_a_job_reported_to_one_node_is_shown_by_both() -> None:
    redis = Server(redis_server())
    try:
        with node(redis.url) as first, node(redis.url) as second, trio.fail_after(4 * PATIENCE):
            one, two = address(first), address(second)
            await tell(one, "video:42", total=4, done=1, message="ü \u2028")
            follower = Follower()
            async with open_client(port_of(two)) as client:
                await client.receive_type("welcome")
                await client.ask("subscribe", jobs=["video:42"])
                follower.take(await client.receive())
                for done in (2, 3):
                    await tell(one if done == 2 else two, "video:42", done=done)
                    follower.take(await client.receive())
                second.process.kill()
            # The node has ended; the client connects to the other one with its position.
            epoch, seq = follower.at["video:42"]
            await tell(one, "video:42", status="succeeded")
            async with open_client(port_of(one)) as client:
                await client.receive_type("welcome")
                await client.send("hello", positions={"video:42": [epoch, seq]})
                await client.ask("subscribe", jobs=["video:42"])
                frame = await client.receive()
                assert (frame["prev"], frame["seq"]) == (seq, seq + 1)
                follower.take(frame)
                assert is_final(frame["state"])
            second.end()
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
            assert (await tell(url, "video:42", percent=5))["applied"]
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
            said = await trio.to_thread.run_sync(stock.until, "CTRL + C")
            url = next(word for word in said.split() if word.startswith("http://"))
            await tell(url, "video:42", percent=5)
            assert redis.client.hget("progress:last:video:42", "percent") == b"5"
    finally:
        redis.close()


def test_an_unreachable_redis_is_reported_in_one_line() -> None:
    with node("redis://127.0.0.1:1", "--exit-if-unavailable") as refused:
        assert refused.end() == 3
        assert "--redis (PROGRESS_GATEWAY_REDIS): Redis:" in refused.errors
        assert "Traceback" not in refused.errors


@pytest.mark.parametrize("url", ["localhost:6379", "http://x", "redis://"])
def test_an_invalid_url_is_named(url: str) -> None:
    with node(url) as refused:
        assert refused.end() == 2
        assert "--redis" in refused.errors
