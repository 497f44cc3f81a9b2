"""After hundreds of clients of all kinds have disconnected, no resources are left."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import pytest
import trio

from gateway import Gateway, Limits, MemoryBroker, serve_gateway
from gateway.model.errors import BrokerUnavailable

from .client import (
    BINARY,
    PATIENCE,
    Raw,
    Reset,
    close_frame,
    command,
    connect,
    frame,
    open_client,
    upgrade,
)
from .conftest import eventually

ROUNDS = 25


async def plain(raw: Raw) -> None:
    await raw.send(upgrade(subprotocol="progress.v1") + command("subscribe", jobs=["a", "b"]))
    await raw.receive_until(b'"state"')
    await raw.send(close_frame())
    await raw.receive_rest()


async def vanishing(raw: Raw) -> None:
    await raw.send(upgrade() + command("subscribe", jobs=["a"], mode="every"))
    await raw.receive_until(b"welcome")


async def resetting(raw: Raw) -> None:
    await vanishing(raw)
    raw.reset()


async def resetting_early(raw: Raw) -> None:
    await raw.send(upgrade())
    raw.reset()


async def half_a_frame(raw: Raw) -> None:
    await vanishing(raw)
    await raw.send(command("ping")[:7])


async def binary(raw: Raw) -> None:
    await raw.send(upgrade() + frame(b"", BINARY))
    await raw.receive_until(b"text frames only")


async def broken(raw: Raw) -> None:
    await raw.send(upgrade() + b"\xff\xff\xff")
    await raw.receive_rest()


async def noise(raw: Raw) -> None:
    await raw.send(os.urandom(1_000))
    await raw.receive_rest()


async def silence(raw: Raw) -> None:
    pass


async def half_a_head(raw: Raw) -> None:
    await raw.send(upgrade()[:50])


async def request(raw: Raw) -> None:
    await raw.send(b"GET /api/jobs HTTP/1.1\r\nhost: localhost\r\n\r\n")
    assert (await raw.receive_response())[0] == 200


async def stream(raw: Raw) -> None:
    await raw.send(b"GET /api/events?job=a HTTP/1.1\r\nhost: localhost\r\n\r\n")
    await raw.receive_until(b"welcome")


async def long_poll(raw: Raw) -> None:
    await raw.send(b"GET /api/jobs/never?wait=30 HTTP/1.1\r\nhost: localhost\r\n\r\n")


async def half_a_body(raw: Raw) -> None:
    await raw.send(b"POST /api/jobs/a HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n\r\n{")


KINDS = [
    plain,
    vanishing,
    resetting,
    resetting_early,
    half_a_frame,
    binary,
    broken,
    noise,
    silence,
    half_a_head,
    request,
    stream,
    long_poll,
    half_a_body,
]


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_hundreds_of_closed_clients_leave_no_resources(gateway: Gateway, port: int) -> None:
    async def one(kind: Callable[[Raw], Awaitable[None]]) -> None:
        try:
            async with connect(port) as raw:
                await kind(raw)
        except Reset:
            pass

    async def many(rounds: int) -> None:
        for _ in range(rounds):
            async with trio.open_nursery() as nursery:
                for kind in KINDS:
                    nursery.start_soon(one, kind)
                await gateway.publish("a", phase=str(_))

    tasks, files = trio.lowlevel.current_statistics().tasks_living, descriptors()
    await many(ROUNDS)
    await eventually(lambda: gateway.node.statistics().connections == 0)
    assert gateway.node.statistics().hub.subscriptions == 0
    await eventually(lambda: trio.lowlevel.current_statistics().tasks_living <= tasks)
    assert descriptors() <= files


class DeadBroker(MemoryBroker):
    def feed(self, **options: Any) -> NoReturn:
        raise BrokerUnavailable("it is not there")


async def test_a_gateway_that_could_not_start_leaves_no_resources() -> None:
    files = descriptors()
    with pytest.raises(ExceptionGroup):
        await serve_gateway("127.0.0.1:0", DeadBroker())
    assert descriptors() == files


async def test_a_cancelled_gateway_stops(limits: Limits) -> None:
    tasks, files = trio.lowlevel.current_statistics().tasks_living, descriptors()
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            gateway: Gateway = await nursery.start(serve_gateway, "127.0.0.1:0", None, limits)
            async with open_client(gateway.addresses[0][1]) as client:
                await client.receive_type("welcome")
                nursery.cancel_scope.cancel()
                with trio.CancelScope(shield=True):
                    assert (await client.receive())["type"] == "goaway"
                    assert gateway.node.not_ready_reason == "draining"
                    assert await client.close_code() == 1001
    assert trio.lowlevel.current_statistics().tasks_living == tasks
    assert descriptors() == files


async def test_a_client_that_ignores_goaway_is_closed_at_the_end_of_the_drain() -> None:
    limits = Limits(shutdown_timeout=0.3, close_timeout=PATIENCE * 2)
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            gateway: Gateway = await nursery.start(serve_gateway, "127.0.0.1:0", None, limits)
            async with open_client(gateway.addresses[0][1]) as client:
                await client.receive_type("welcome")
                nursery.cancel_scope.cancel()
    assert nursery.cancel_scope.cancelled_caught
