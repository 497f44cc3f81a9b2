"""Clients that request another protocol than HTTP/1.1 or our WebSocket. Every such request is
refused, because the limits of a client are counted by request."""

from __future__ import annotations

import pytest

from tests.e2e.client import WebSocketClient, command, connect, publication, upgrade

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # RFC 9113 §3.4
SETTINGS = bytes(3) + b"\x04" + bytes(5)
HEALTH = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n"


def offer(protocol: bytes) -> bytes:
    """Returns a request that offers HTTP/2."""
    return (
        HEALTH + b"connection: Upgrade, HTTP2-Settings\r\nhttp2-settings: AAMAAABkAAQAoAAA\r\n"
        b"upgrade: " + protocol + b"\r\n\r\n"
    )


before = pytest.mark.parametrize(
    ("requests", "answers"),
    [
        (b"", 0),
        (HEALTH + b"\r\n", 1),
        (publication("a", b'{"lease": 30}'), 1),
        (offer(b"strange") + publication("a", b'{"lease": 30}') * 2, 3),
    ],
    ids=["first", "after a request", "after a body", "after more"],
)
"""Data that may precede it in the same segment."""


@before
@pytest.mark.parametrize(
    "data", [PREFACE + SETTINGS, b"GET / HTTP/2.0\r\nhost: localhost\r\n\r\n", PREFACE[:18]]
)
async def test_http2_is_refused(port: int, requests: bytes, answers: int, data: bytes) -> None:
    async with connect(port) as raw:
        await raw.send(requests + data)
        for _ in range(answers):
            assert (await raw.receive_response())[0] == 200
        assert (await raw.receive_response())[0] == 505
        assert await raw.receive_rest() == b""


@before
@pytest.mark.parametrize(
    "protocol", [b"h2c", b"H2C", b"TLS/1.0", b"\xa0websocket", b"websocket\x85", b"websocket, h2c"]
)
async def test_an_http2_upgrade_offer_is_ignored(
    port: int, requests: bytes, answers: int, protocol: bytes
) -> None:
    async with connect(port) as raw:
        await raw.send(requests + offer(protocol) + HEALTH + b"\r\n")
        for _ in range(answers + 2):
            status, headers, _ = await raw.receive_response()
            assert status == 200
            assert "upgrade" not in headers


async def test_an_http2_offer_in_a_folded_line_is_found(port: int) -> None:
    async with connect(port) as raw:
        await raw.send(upgrade().replace(b"upgrade: ", b"upgrade:\r\n "))
        assert (await raw.receive_response())[0] == 400
        assert await raw.receive_rest() == b""


@before
async def test_a_websocket_upgrade_works_after_other_requests(
    port: int, requests: bytes, answers: int
) -> None:
    async with connect(port) as raw:
        await raw.send(requests + upgrade() + command("ping"))
        for _ in range(answers):
            assert (await raw.receive_response())[0] == 200
        assert (await raw.receive_head())[0] == 101
        client = WebSocketClient(raw)
        assert await client.receive_type("pong")
        await client.close()
