"""All attacks on `hypercorn -k trio gateway.asgi:app`: the process survives, and its other clients
are served. (Speed, and the answers to malformed input, depend on hypercorn.)"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
import trio

from gateway import Limits
from tests.e2e.client import (
    BINARY,
    CLOSE,
    PATIENCE,
    PING,
    PONG,
    Reset,
    close_frame,
    command,
    connect,
    frame,
    open_client,
    upgrade,
)
from tests.e2e.conftest import eventually
from tests.e2e.hosts import asgi_server

from . import test_one_client as one_client
from .attacked_gateway import gateway_with_clients
from .attackers import ATTACKS
from .test_attacks import attack

EARLY = [b"\0", b"\xff" * 100, frame(b"\xff"), frame("{}", rsv=7), frame(b"", CLOSE), b"GET / "]
HEADS = {
    "accepted": upgrade(),
    "another path": upgrade("/no"),
    "another version": upgrade(sec_websocket_version="8"),
    "no key": upgrade(sec_websocket_key=""),
    "a bad key": upgrade(sec_websocket_key="x"),
    "a foreign origin": upgrade(origin="https://evil.example"),
    "bytes that are no text": upgrade(x="\xff\xfe"),
    "an extension": upgrade(sec_websocket_extensions='permessage-deflate; x="\xe9"'),
    "a host twice": upgrade().replace(b"\r\n\r\n", b"\r\nhost: b\r\n\r\n"),
    "a body": upgrade().replace(b"\r\n\r\n", b"\r\ncontent-length: 5\r\n\r\n"),
    "HTTP/1.0": upgrade().replace(b"HTTP/1.1", b"HTTP/1.0"),
    "h2c": b"GET / HTTP/1.1\r\nhost: a\r\nupgrade: h2c\r\nconnection: upgrade, http2-settings\r\n"
    b"http2-settings: AAMAAABkAAQAAP__\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "CONNECT": b"CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n",
    "POST": b"POST /api/jobs/a HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n{",
    "nothing of it": b"",
}
FRAMES = [
    frame(b"\0\1\2", BINARY),
    frame(b"\xff\xfe"),
    frame(b"\xc3", fin=False) + frame(b"\x28", 0),
    *(frame("{}", rsv=rsv) for rsv in (1, 2, 4, 7)),
    *(frame("{}", opcode) for opcode in (0, 3, 7, 11, 15)),
    frame("{}", masked=False),
    frame("{", fin=False) + frame("{}"),
    frame(b"x" * 126, PING),
    frame(b"", PING, fin=False),
    frame(b"x" * 125, PONG) * 50,
    b"\x81\xfe\x00\x05\0\0\0\0hello",
    b"\x81\xff" + b"\xff" * 8 + b"\0\0\0\0",
    frame(b"\x03", CLOSE),
    frame(b"\x03\xe7", CLOSE),
    frame(b"\x03\xe8\xff", CLOSE),
    close_frame() + frame("{}"),
    close_frame() * 3,
    frame("x" * 100_000),
    frame("[" * 2_000),
]


@pytest.fixture
async def port(limits: Limits, caplog: pytest.LogCaptureFixture) -> AsyncIterator[int]:
    """The port of a gateway in hypercorn. At the end, it must still serve another client."""
    caplog.set_level(logging.CRITICAL, "hypercorn.error")
    async with asgi_server(limits) as host, open_client(host.port) as other:
        await other.receive_type("welcome")
        await other.request("subscribe", jobs=["other"])
        assert (await other.receive())["state"] is None
        yield host.port
        await eventually(lambda: host.node.statistics().connections == 1)
        seq = (await host.publish("other", percent=50)).position.seq
        assert (await other.receive())["seq"] == seq
        assert await other.request("ping") == {"type": "pong"}
        await other.close()


async def send(port: int, *parts: bytes) -> None:
    """Send these over one connection, each a moment after the previous one, then disconnect."""
    with suppress(Reset, OSError, trio.BrokenResourceError):
        async with connect(port) as raw:
            for part in parts:
                await raw.send(part)
                await trio.lowlevel.checkpoint()
            raw.send_eof()
            with trio.move_on_after(0.5):
                await raw.rest()


@pytest.mark.parametrize("head", HEADS)
async def test_hypercorn_survives_any_bytes_after_a_head(port: int, head: str) -> None:
    for byte in EARLY:
        await send(port, HEADS[head] + byte)
        await send(port, HEADS[head], byte, byte)


async def test_hypercorn_survives_any_frames(port: int) -> None:
    for data in FRAMES:
        await send(port, upgrade() + data + command("ping"))
        await send(port, upgrade(), data, data, command("ping"))


@pytest.mark.parametrize("how", ["reset", "close", "send_eof"])
@pytest.mark.parametrize("phase", one_client.PHASES)
async def test_a_client_that_leaves_in_any_phase_leaves_no_resources(
    port: int, phase: one_client.Phase, how: str
) -> None:
    for _ in range(3):
        with suppress(Reset):
            async with connect(port) as raw:
                await phase(raw)
                getattr(raw, how)()


@pytest.mark.parametrize("name", ATTACKS)
async def test_the_gateway_survives_a_minute_of_attacks(name: str) -> None:
    async with gateway_with_clients(hypercorn=True) as gateway:
        with trio.fail_after(10):
            while len(gateway.ages) < 100:  # noqa: ASYNC110 - polls the counts of other tasks
                await trio.sleep(0.01)
        # Shorter than against the gateway's own server: only survival is checked here.
        sent = await attack(name, gateway, connections=1_000, seconds=0.5, until_gone=False)
        assert sent > 0
        assert gateway.is_running
        gateway.reset_measurements()
        with trio.fail_after(
            24 * PATIENCE
        ):  # hypercorn reads all of a flood, and other tests run at the same time
            while len(gateway.ages) < 100:  # noqa: ASYNC110 - likewise
                await trio.sleep(0.01)
