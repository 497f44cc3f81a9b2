"""Closing connections: a few at a time, and with all their buffers freed.

The sockets are real, so real time passes; but no test waits for time.
"""

from __future__ import annotations

import gc
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress

import pytest
import trio
import trio.testing
from h11 import Connection
from wsproto.frame_protocol import FrameProtocol

from gateway import Gateway, Limits
from gateway.transports.stream import ClientStream
from tests.e2e.client import PATIENCE, Raw, close_frame, connect, upgrade
from tests.e2e.conftest import eventually

CONNECTIONS, AT_ONCE = 100, 10


class Passes(trio.abc.Instrument):
    """Counts what happens in each pass of the scheduler."""

    def __init__(self) -> None:
        self.counts = [0]

    def count(self) -> None:
        self.counts[-1] += 1

    def before_io_wait(self, timeout: float) -> None:
        self.counts.append(0)


def cut(theirs: socket.socket) -> None:
    """Leaves input unread, so that the kernel resets the connection (ECONNRESET)."""
    theirs.close()


def end(theirs: socket.socket) -> None:
    theirs.recv(1)
    theirs.close()


@pytest.mark.parametrize("leave", [cut, end])
@pytest.mark.parametrize("tasks", [("read",), ("write",), ("read", "write"), ("write", "read")])
async def test_a_few_connections_are_closed_per_pass(
    leave: Callable[[socket.socket], None], tasks: tuple[str, ...]
) -> None:
    """No close waits for an earlier one: in this test none of them ever ends. All tasks of a client
    are cancelled in one turn."""
    passes = Passes()
    trio.lowlevel.add_instrument(passes)
    disconnects = trio.Semaphore(AT_ONCE)
    closed_count = 0
    left = trio.Event()

    async def stay(stream: ClientStream, task: str) -> None:
        nonlocal closed_count
        try:
            with suppress(trio.BrokenResourceError):
                if task == "read":
                    assert await stream.receive_some() == b""
                else:
                    await left.wait()
                    while True:
                        await stream.send_all(b"news")
                        await trio.lowlevel.checkpoint()
            passes.count()
            closed_count += 1
            await trio.sleep_forever()
        finally:
            stream.abort()

    try:
        async with trio.open_nursery() as nursery:
            theirs = []
            for _ in range(CONNECTIONS):
                ours, peer = socket.socketpair()
                ours.setblocking(False)
                stream = ClientStream(ours, limits=Limits(), disconnects=disconnects)
                await stream.send_all(b"x")
                for task in tasks:
                    nursery.start_soon(stay, stream, task)
                theirs.append(peer)
            await trio.testing.wait_all_tasks_blocked()
            for peer in theirs:
                leave(peer)
            left.set()
            await eventually(lambda: closed_count == CONNECTIONS * len(tasks))
            nursery.cancel_scope.cancel()
    finally:
        trio.lowlevel.remove_instrument(passes)
    assert max(passes.counts) <= AT_ONCE * len(tasks)


async def test_input_during_the_close_is_drained(nursery: trio.Nursery) -> None:
    """Closing drains the client's input; two concurrent reads would be an error."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    stream = ClientStream(ours, limits=Limits())
    stream.unread(b"put back")
    with theirs:
        nursery.start_soon(stream.aclose)
        await trio.testing.wait_all_tasks_blocked()
        theirs.send(b"too late")
        with pytest.raises(trio.ClosedResourceError):
            await stream.receive_some()
    with trio.fail_after(PATIENCE):
        await stream.closed.wait()


@pytest.fixture
def _no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def says_goodbye(raw: Raw) -> None:
    await raw.send(close_frame())
    await raw.receive_rest()


async def ends(raw: Raw) -> None:
    raw.close()


async def resets(raw: Raw) -> None:
    raw.reset()


async def says_nothing(raw: Raw) -> None:
    """Waits until the connection is ended."""
    await raw.receive_rest()


WEBSOCKET = upgrade()
STREAM = b"GET /api/events?job=a HTTP/1.1\r\nhost: localhost\r\n\r\n"


@pytest.mark.usefixtures("_no_collector")
@pytest.mark.parametrize("limits", [Limits(ping_interval=0.1, ping_timeout=0.1, close_timeout=0.1)])
@pytest.mark.parametrize(
    ("request_", "leave"),
    [
        (WEBSOCKET, says_goodbye),
        (WEBSOCKET, ends),
        (WEBSOCKET, resets),
        (WEBSOCKET, says_nothing),
        (STREAM, ends),
        (STREAM, resets),
    ],
)
async def test_buffers_of_a_closed_connection_are_freed(
    gateway: Gateway, request_: bytes, leave: Callable[[Raw], Awaitable[None]]
) -> None:
    """Reference counts free the buffers, without the garbage collector."""
    async with connect(gateway.addresses[0][1]) as raw:
        await raw.send(request_)
        await raw.receive_until(b"welcome")
        assert parser_count()
        await leave(raw)
    with trio.fail_after(PATIENCE):
        await eventually(lambda: not parser_count())


def parser_count() -> int:
    """Returns the number of parsers of frames or requests; each refers to all objects of a
    connection."""
    return sum(isinstance(thing, FrameProtocol | Connection) for thing in gc.get_objects())


@pytest.fixture
async def pair() -> AsyncIterator[tuple[ClientStream, socket.socket]]:
    """A stream, and the client's end of a connection that keeps the limits of messages."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for sock in (ours, theirs):
        sock.setblocking(False)
    yield ClientStream(ours, limits=Limits()), theirs
    ours.close()
    theirs.close()


async def test_what_is_sent_with_the_next_write_is_one_write(
    pair: tuple[ClientStream, socket.socket],
) -> None:
    stream, theirs = pair
    stream.send_with_next(b"handshake ")
    with pytest.raises(BlockingIOError):
        theirs.recv(100)
    assert stream.send_now(b"welcome") is None
    await stream.send_all(b"more")
    assert [theirs.recv(100) for _ in range(2)] == [b"handshake welcome", b"more"]


async def test_what_nothing_follows_is_sent_when_input_is_awaited(
    pair: tuple[ClientStream, socket.socket],
) -> None:
    stream, theirs = pair
    stream.send_with_next(b"handshake")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.receive_some)
        await trio.testing.wait_all_tasks_blocked()
        assert theirs.recv(100) == b"handshake"
        theirs.send(b"bytes")


async def test_what_is_sent_with_the_next_write_comes_first_if_the_socket_is_full(
    pair: tuple[ClientStream, socket.socket],
) -> None:
    stream, theirs = pair
    with suppress(BlockingIOError):
        while True:
            stream.socket.send(b"full")
    stream.send_with_next(b"handshake ")
    unsent = stream.send_now(b"welcome")
    assert unsent is not None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.send_rest, unsent)
        data = b""
        while data in (b"", b"full"):
            await trio.lowlevel.wait_readable(theirs)
            data = theirs.recv(100)
    assert data == b"handshake welcome"
