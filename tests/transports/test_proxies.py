"""The client's address behind proxies: which headers are trusted, and how they are parsed."""

from __future__ import annotations

import socket
from contextlib import AsyncExitStack, ExitStack, suppress
from functools import partial
from ipaddress import ip_network
from struct import pack

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from gateway import Gateway, Limits, serve_gateway
from gateway.transports.connection_limits import MAX_REFUSED, ConnectionLimiter
from gateway.transports.proxies import Proxies, read_proxy_header
from gateway.transports.stream import ClientStream
from tests.e2e.client import WebSocketClient, command, connect, upgrade
from tests.e2e.conftest import eventually

PROXY, OTHER_PROXY = "10.0.0.1", "10.0.0.2"
TRUSTED = (ip_network("10.0.0.0/8"), ip_network("2001:db8::/64"))


@pytest.mark.parametrize(
    ("form", "header", "client"),
    [
        ("x-forwarded-for", "192.0.2.1", "192.0.2.1"),
        (
            "x-forwarded-for",
            "6.6.6.6, 192.0.2.1",
            "192.0.2.1",
        ),  # the client itself may have written the first
        ("x-forwarded-for", "6.6.6.6, 192.0.2.1, 10.0.0.2", "192.0.2.1"),
        ("x-forwarded-for", "10.0.0.9, 10.0.0.2", "10.0.0.9"),
        ("x-forwarded-for", "192.0.2.1:4711", "192.0.2.1"),
        ("x-forwarded-for", "[2001:db9::1]:4711", "2001:db9::1"),
        ("x-forwarded-for", "2001:DB9:0:0::1", "2001:db9::1"),
        ("x-forwarded-for", "::ffff:192.0.2.1", "192.0.2.1"),
        ("x-forwarded-for", "192.0.2.1, nonsense", PROXY),
        ("x-forwarded-for", "nonsense, 10.0.0.2", "10.0.0.2"),
        ("x-forwarded-for", "", PROXY),
        ("x-forwarded-for", ",,", PROXY),
        ("forwarded", "for=192.0.2.1;proto=https;by=10.0.0.1", "192.0.2.1"),
        ("forwarded", "proto=https; for=192.0.2.1", "192.0.2.1"),
        ("forwarded", 'For="[2001:db9::1]:4711"', "2001:db9::1"),
        ("forwarded", 'for="192.0.2.1:80"', "192.0.2.1"),
        ("forwarded", "for=6.6.6.6, for=192.0.2.1", "192.0.2.1"),
        ("forwarded", "for=192.0.2.1, for=_hidden", PROXY),
        ("forwarded", "for=unknown", PROXY),
        ("forwarded", "by=192.0.2.1", PROXY),
        ("forwarded", "", PROXY),
        ("forwarded", ",,", PROXY),
        ("forwarded", "for=6.6.6.6, for=192.0.2.1, for=10.0.0.2", "192.0.2.1"),
        # Values that a proxy copies from the client, such as its Host:
        ("forwarded", 'proto=http;host="x;for=6.6.6.6";for=192.0.2.1', "192.0.2.1"),
        ("forwarded", 'for=192.0.2.1;host="a,for=6.6.6.6"', "192.0.2.1"),
        ("forwarded", r'for=192.0.2.1;host="a\",for=6.6.6.6;b=\""', "192.0.2.1"),
        # Values that the client has written, and to which the proxy has added:
        ("forwarded", 'for=6.6.6.6;x=", for=192.0.2.1', "192.0.2.1"),
        ("forwarded", 'for=6.6.6.6;x=", for="[2001:db9::1]:4711"', "2001:db9::1"),
        ("forwarded", 'for=6.6.6.6;x=", for=192.0.2.1;host="a";proto=http', "192.0.2.1"),
        ("forwarded", r'for=6.6.6.6;x="\, for="[2001:db9::1]"', "2001:db9::1"),
        ("forwarded", 'for=6.6.6.6", for=192.0.2.1', "192.0.2.1"),
        ("forwarded", 'for=6.6.6.6", for=10.0.0.2', OTHER_PROXY),
        ("proxy-protocol", "192.0.2.1", PROXY),  # which is no header
    ],
)
def test_the_header_of_a_trusted_proxy_is_used(form: str, header: str, client: str) -> None:
    proxies = Proxies(TRUSTED, form)
    assert proxies.client(PROXY, {form: header}) == client


def test_the_header_of_other_addresses_is_ignored() -> None:
    proxies = Proxies(TRUSTED)
    assert proxies.client("192.0.2.9", {"x-forwarded-for": "1.1.1.1"}) == "192.0.2.9"
    assert proxies.client("2001:db8:1::1", {"x-forwarded-for": "1.1.1.1"}) == "2001:db8:1::1"


def test_the_header_that_is_not_configured_is_ignored() -> None:
    """A proxy that sets one header forwards the other one unchanged."""
    assert Proxies(TRUSTED).client(PROXY, {"forwarded": "for=6.6.6.6"}) == PROXY
    received = {"forwarded": "for=192.0.2.1", "x-forwarded-for": "6.6.6.6"}
    assert Proxies(TRUSTED, "forwarded").client(PROXY, received) == "192.0.2.1"


@given(st.text(), st.sampled_from(["x-forwarded-for", "forwarded"]))
def test_any_header_value_gives_an_address(text: str, form: str) -> None:
    assert Proxies(TRUSTED, form).client(PROXY, {form: text})


V2 = b"\r\n\r\n\0\r\nQUIT\n"


async def header_of(*parts: bytes) -> tuple[str | None, bytes]:
    """Reads the PROXY header in these parts. Returns its address, and the remaining bytes."""
    ours, theirs = socket.socketpair()
    with theirs:
        ours.setblocking(False)
        stream = ClientStream(ours, limits=Limits())
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_send, theirs, parts)
                received = await read_proxy_header(stream, Limits(request_header_timeout=2))
            rest = await stream.receive_some() if stream._unread else b""
        finally:
            stream.abort()
    return received, rest


async def _send(sock: socket.socket, parts: tuple[bytes, ...]) -> None:
    for part in parts:
        sock.send(part)
        await trio.testing.wait_all_tasks_blocked(0.001)
    sock.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize(
    ("header", "client"),
    [
        (b"PROXY TCP4 192.0.2.1 10.0.0.1 4711 443\r\n", "192.0.2.1"),
        (b"PROXY TCP6 2001:db9::1 ::1 4711 443\r\n", "2001:db9::1"),
        (b"PROXY UNKNOWN\r\n", None),
        (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None),
        (V2 + pack("!BBH", 0x21, 0x11, 12) + bytes([192, 0, 2, 1]) + bytes(8), "192.0.2.1"),
        (V2 + pack("!BBH", 0x21, 0x21, 36) + b"\x20\x01\x0d\xb9" + bytes(32), "2001:db9::"),
        (V2 + pack("!BBH", 0x21, 0x11, 20) + bytes([192, 0, 2, 1]) + bytes(16), "192.0.2.1"),
        (V2 + pack("!BBH", 0x20, 0, 0), None),  # LOCAL: a health check
        (V2 + pack("!BBH", 0x21, 0x31, 216) + bytes(216), None),  # a Unix socket
    ],
)
async def test_a_proxy_protocol_header_is_parsed(header: bytes, client: str | None) -> None:
    assert await header_of(header + b"GET / HTTP/1.1") == (client, b"GET / HTTP/1.1")
    assert await header_of(header[:5], header[5:13], header[13:]) == (client, b"")


@pytest.mark.parametrize(
    "header",
    [
        b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        b"PROXY TCP4 nonsense 10.0.0.1 1 2\r\n",
        b"PROXY TCP4 999.0.2.1 10.0.0.1 1 2\r\n",
        b"PROXY " + b"x" * 200,
        b"PROXY TCP4 192.0.2.1",
        V2,
        V2 + pack("!BBH", 0x31, 0x11, 12) + bytes(12),
        V2 + pack("!BBH", 0x21, 0x11, 60_000) + bytes(6_000),
        b"\r\n\r\n\0\r\nQUAT",
        b"",
    ],
)
async def test_an_invalid_proxy_protocol_header_is_refused(header: bytes) -> None:
    with pytest.RaisesGroup(trio.BrokenResourceError, flatten_subgroups=True, allow_unwrapped=True):
        await header_of(header)


def test_connections_are_counted_by_address() -> None:
    connection_limiter = ConnectionLimiter(lambda: Limits(max_connections_per_address=2))
    connected: list[str] = []

    def connect(address: str) -> bool:
        within = connection_limiter.connect(address)
        connected.append(address)
        return within

    assert [connect("192.0.2.1") for _ in range(3)] == [True, True, False]
    assert connect("192.0.2.2")
    assert connect("2001:db8::1")
    assert connect("2001:db8::ffff:1")
    assert not connect("2001:db8::2")
    assert connect("2001:db8:0:1::1")
    for _ in range(2 + MAX_REFUSED):
        connect("192.0.2.3")
    with pytest.raises(trio.BrokenResourceError, match=r"192\.0\.2\.3"):
        connect("192.0.2.3")
    for address in connected:
        connection_limiter.disconnect(address)
    assert repr(connection_limiter) == "<ConnectionLimiter: 0 sockets, 0 addresses>"


def health(address: str) -> bytes:
    """Returns a request that a proxy passes on for `address`."""
    return f"GET /healthz HTTP/1.1\r\nhost: [::1]\r\nx-forwarded-for: {address}\r\n\r\n".encode()


class TestOverTheWire:
    """A request from 127.0.0.1, which is trusted, with the addresses in its headers."""

    LIMITS = Limits(max_connections_per_address=2, request_header_timeout=0.5, close_timeout=0.3)

    async def test_a_connection_beyond_the_limit_of_an_address_is_refused(self) -> None:
        async with trio.open_nursery() as nursery:
            serve = partial(serve_gateway, "127.0.0.1:0", None, self.LIMITS)
            gateway: Gateway = await nursery.start(serve)
            port = gateway.addresses[0][1]
            request_head = upgrade(x_forwarded_for="6.6.6.6, 192.0.2.1")
            async with connect(port) as one, connect(port) as two:
                for raw in (one, two):
                    await raw.send(request_head)
                    assert (await raw.receive_head())[0] == 101
                async with connect(port) as third:
                    await third.send(request_head)
                    assert (await third.receive_head())[0] == 101
                    assert await WebSocketClient(third).close_code() == 4003
                async with connect(port) as fourth:
                    await fourth.send(health("192.0.2.1"))
                    assert (await fourth.receive_head())[0] == 429
                for other in (upgrade(x_forwarded_for="192.0.2.2"), upgrade()):
                    async with connect(port) as raw:
                        await raw.send(other + command("ping"))
                        assert (await raw.receive_head())[0] == 101
                        assert await WebSocketClient(raw).receive_type("pong")
            nursery.cancel_scope.cancel()

    async def test_a_reused_connection_counts_for_the_address_of_its_request(self) -> None:
        """A proxy uses its connections for one client after the other, in any order."""
        async with trio.open_nursery() as nursery:
            serve = partial(serve_gateway, "127.0.0.1:0", None, self.LIMITS)
            gateway: Gateway = await nursery.start(serve)
            port = gateway.addresses[0][1]
            async with AsyncExitStack() as stack:
                connections = [await stack.enter_async_context(connect(port)) for _ in range(6)]
                for raw in connections:
                    for address in ("192.0.2.1", "192.0.2.7"):
                        await raw.send(health(address))
                        assert (await raw.receive_response())[0] == 200
                for raw in connections[:2]:
                    await raw.send(upgrade(x_forwarded_for="192.0.2.1"))
                    assert b"welcome" in await raw.receive_until(b"welcome")
                await connections[2].send(upgrade(x_forwarded_for="192.0.2.1"))
                assert (await connections[2].receive_head())[0] == 101
                assert await WebSocketClient(connections[2]).close_code() == 4003
                for raw in connections[3:5]:
                    await raw.send(upgrade(x_forwarded_for="192.0.2.7"))
                    assert b"welcome" in await raw.receive_until(b"welcome")
                await connections[5].send(health("192.0.2.2"))
                assert (await connections[5].receive_response())[0] == 200
                await connections[5].send(health("192.0.2.7"))
                assert (await connections[5].receive_response())[0] == 429
            nursery.cancel_scope.cancel()

    async def test_a_connection_counts_until_the_response_is_sent(self) -> None:
        stream = health("192.0.2.1").replace(b"/healthz", b"/api/events?job=a")
        async with trio.open_nursery() as nursery:
            serve = partial(serve_gateway, "127.0.0.1:0", None, self.LIMITS)
            gateway: Gateway = await nursery.start(serve)
            port = gateway.addresses[0][1]
            async with connect(port) as other_connection:
                async with connect(port) as one, connect(port) as two:
                    for raw in (one, two):
                        await raw.send(health("192.0.2.2"))
                        assert (await raw.receive_response())[0] == 200
                        await raw.send(stream)
                        assert (await raw.receive_head())[0] == 200
                    await other_connection.send(upgrade(x_forwarded_for="192.0.2.1"))
                    assert (await other_connection.receive_head())[0] == 101
                    assert await WebSocketClient(other_connection).close_code() == 4003
                await eventually(lambda: gateway.node.statistics().connections == 0)
            async with connect(port) as other_connection:
                await other_connection.send(upgrade(x_forwarded_for="192.0.2.1"))
                assert b"welcome" in await other_connection.receive_until(b"welcome")
            nursery.cancel_scope.cancel()

    async def test_the_proxy_protocol_gives_the_client_address(self) -> None:
        async with trio.open_nursery() as nursery:
            proxies = Proxies(form="proxy-protocol")
            serve = partial(serve_gateway, "127.0.0.1:0", None, self.LIMITS, proxies=proxies)
            gateway: Gateway = await nursery.start(serve)
            port = gateway.addresses[0][1]
            with ExitStack() as stack:
                codes = []
                for _ in range(3):
                    sock = stack.enter_context(trio.socket.socket())
                    await sock.connect(("127.0.0.1", port))
                    await sock.send(b"PROXY TCP4 192.0.2.1 10.0.0.1 1 2\r\n" + upgrade())
                    data = b""
                    while b"welcome" not in data and b"too many" not in data:
                        with trio.fail_after(5):
                            data += await sock.recv(4096)
                    codes.append(b"too many" in data)
                assert codes == [False, False, True]
            async with connect(port) as raw:
                await raw.send(upgrade())
                with suppress(Exception):
                    assert await raw.receive_rest() == b""
            nursery.cancel_scope.cancel()
