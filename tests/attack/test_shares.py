"""Clients at one address, or with one subject, that watch as many jobs as possible: others are
served."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial

import pytest
import trio

from gateway import Gateway, Limits, serve_gateway
from gateway.auth.factory import open_authenticator
from tests.auth.signing import SECRET, sign
from tests.e2e.client import Json, WebSocketClient, connect, upgrade
from tests.e2e.conftest import eventually

EVE, BOB = "192.0.2.1", "192.0.2.2"
JOBS_EACH = 100


@pytest.fixture
def limits() -> Limits:
    return Limits(max_topics=2_000, max_topics_per_address=500, max_topics_per_subject=600)


async def open_client_at(
    stack: AsyncExitStack, port: int, address: str, **headers: str
) -> WebSocketClient:
    raw = await stack.enter_async_context(connect(port))
    await raw.send(upgrade(x_forwarded_for=address, **headers))
    assert (await raw.receive_head())[0] == 101
    client = WebSocketClient(raw)
    await client.receive_type("welcome")
    return client


async def subscribe(client: WebSocketClient, *jobs: str) -> Json:
    await client.send("subscribe", jobs=jobs)
    return await client.receive_type("subscriptions")


async def watch_invented_jobs(
    stack: AsyncExitStack, port: int, address: str, *, name: str, clients: int, **headers: str
) -> list[Json]:
    """Returns the replies to clients at one address that watch unknown jobs."""
    answers = []
    for number in range(clients):
        client = await open_client_at(stack, port, address, **headers)
        jobs = [f"{name}:{number}:{job}" for job in range(JOBS_EACH)]
        answers.append(await subscribe(client, *jobs))
    return answers


def denials_in(answers: list[Json]) -> tuple[int, set[str]]:
    """Returns how many jobs were denied, and why."""
    codes = [code for answer in answers for code in answer["denied"].values()]
    return len(codes), set(codes)


def request(target: str, address: str) -> bytes:
    head = f"GET {target} HTTP/1.1\r\nhost: localhost\r\nx-forwarded-for: {address}\r\n\r\n"
    return head.encode()


async def test_invented_jobs_of_one_address_leave_quota_for_others(
    gateway: Gateway, port: int
) -> None:
    """WebSockets, streams and long polls of one address share one part of the limit."""
    async with AsyncExitStack() as stack:
        answers = await watch_invented_jobs(stack, port, EVE, name="never", clients=10)
        assert denials_in(answers) == (500, {"share_full"})
        poll = await stack.enter_async_context(connect(port))
        await poll.send(request("/api/jobs/another?wait=30", EVE))
        status, _, body = await poll.receive_response()
        assert (status, b"share_full" in body) == (503, True)
        stream = await stack.enter_async_context(connect(port))
        await stream.send(request("/api/events?job=another", EVE))
        await stream.receive_until(b": clients at your address watch 500 jobs already")
        bob = await open_client_at(stack, port, BOB)
        assert (await subscribe(bob, "real", "never:0:0"))["denied"] == {}
        await gateway.publish("real", percent=1)
        await bob.receive_until(lambda frame: frame.get("job") == "real" and frame["seq"] == 1)
    await eventually(lambda: gateway.node.hub.statistics().subscriptions == 0)
    assert gateway.node.hub.statistics().free == 2_000 - 1  # the probe's


@pytest.fixture
async def guarded(limits: Limits) -> AsyncIterator[Gateway]:
    """A gateway that requires tokens."""
    async with trio.open_nursery() as nursery:
        authenticator = open_authenticator(secret=SECRET, limits=limits)
        gateway: Gateway = await nursery.start(
            partial(serve_gateway, authenticator=authenticator), "127.0.0.1:0", None, limits
        )
        yield gateway
        nursery.cancel_scope.cancel()


def bearer(subject: str, *watch: str) -> str:
    return "Bearer " + sign({"sub": subject, "watch": watch, "exp": time.time() + 600})


async def test_invented_jobs_of_one_subject_leave_quota_for_others(guarded: Gateway) -> None:
    port = guarded.addresses[0][1]
    eve, bob, nothing = bearer("eve", "*"), bearer("bob", "*"), bearer("mallory")
    async with AsyncExitStack() as stack:
        for address in (EVE, BOB):
            await watch_invented_jobs(
                stack, port, address, name="none", clients=6, authorization=nothing
            )
        assert guarded.node.hub.statistics().free == 2_000 - 1  # the probe's
        denial_counts = []
        for number in range(4):
            at = f"198.51.100.{number}"
            denial_counts += await watch_invented_jobs(
                stack, port, at, name=f"never:{number}", clients=2, authorization=eve
            )
        assert denials_in(denial_counts) == (200, {"share_full"})
        client = await open_client_at(stack, port, "198.51.100.0", authorization=bob)
        assert (await subscribe(client, "real"))["added"] == ["real"]
