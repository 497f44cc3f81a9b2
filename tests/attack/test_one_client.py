"""A hostile client, byte by byte. Only its own connection is closed, with the right code; the
gateway and other clients are not affected."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial

import pytest
import trio

from gateway import Gateway, Limits
from gateway.protocol.messages import Message
from tests.e2e.client import (
    BINARY,
    PATIENCE,
    PING,
    PONG,
    TEXT,
    Json,
    Raw,
    Reset,
    WebSocketClient,
    close_frame,
    command,
    connect,
    frame,
    open_client,
    upgrade,
)
from tests.e2e.conftest import eventually

JOB = "video:42"


@pytest.fixture
async def port(gateway: Gateway) -> AsyncIterator[int]:
    """The port of a gateway. At the end, another client of it must still be served, and after it
    has disconnected, no task or subscription may remain."""
    port = gateway.addresses[0][1]
    tasks = trio.lowlevel.current_statistics().tasks_living
    async with open_client(port) as control_client:
        await control_client.receive_type("welcome")
        await control_client.request("subscribe", jobs=["other"])
        assert (await control_client.receive())["state"] is None
        yield port
        await eventually(lambda: gateway.node.statistics().connections == 1)
        await eventually(lambda: gateway.node.statistics().hub.subscriptions == 1)
        seq = (await gateway.publish("other", percent=50)).position.seq
        assert (await control_client.receive())["seq"] == seq
        assert await control_client.request("ping") == {"type": "pong"}
        await control_client.close()
    await eventually(lambda: trio.lowlevel.current_statistics().tasks_living <= tasks)
    assert gateway.node.statistics().hub.subscriptions == 0


at_once = pytest.mark.parametrize("limits", [Limits()])
"""The default deadlines. A response within `AT_ONCE` has not waited for any of them."""
AT_ONCE = 1.5


async def refusal_status(port: int, data: bytes) -> int:
    """Returns the status with which `data` is refused at once. The connection must end after it."""
    async with connect(port) as raw:
        began = trio.current_time()
        await raw.send(data)
        status, _, _ = await raw.receive_response()
        assert await raw.receive_rest() == b""
        assert trio.current_time() - began < AT_ONCE, "it waited for a deadline"
        return status


# Before any WebSocket


@at_once
@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) * 2,  # TLS ClientHello
        bytes(range(128, 256)) * 8,
        b"\0" * 100,
        b"\r\n\r\n\0",
        b"GARBAGE\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",  # no host
        b"GET / HTTP/1.1\r\nhost: localhost\r\nhost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\r\nbad header\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: strange\r\n\r\n",
    ],
)
async def test_an_invalid_request_is_refused(port: int, data: bytes) -> None:
    assert await refusal_status(port, data) in (400, 501)


async def test_a_partial_head_followed_by_silence_is_408(port: int) -> None:
    for half in (b"", b"G", b"GET /ws HTTP/1.1\r\nhost: localhost\r\n", upgrade()[:-2]):
        async with connect(port) as raw:
            await raw.send(half)
            status, headers, _ = await raw.receive_response()
            assert (status, headers["connection"]) == (408, "close")
            assert await raw.receive_rest() == b""


@at_once
async def test_a_partial_head_followed_by_eof_is_closed(port: int) -> None:
    for half in (b"", b"G", b"GET / HTTP/1.1\r\nhost: localhost\r\n", upgrade()[:-2]):
        async with connect(port) as raw:
            began = trio.current_time()
            await raw.send(half)
            raw.send_eof()
            assert b" 2" not in (await raw.receive_rest())[:13]
            assert trio.current_time() - began < AT_ONCE, "it waited for a deadline"


@at_once
@pytest.mark.parametrize("framing", [b"content-length: 9", b"transfer-encoding: chunked"])
@pytest.mark.parametrize("half", [b"", b"3", b"3\r\n{"])
async def test_a_partial_body_followed_by_eof_is_closed(
    port: int, framing: bytes, half: bytes
) -> None:
    async with connect(port) as raw:
        began = trio.current_time()
        await raw.send(b"POST /api/jobs/a HTTP/1.1\r\nhost: localhost\r\n%b\r\n\r\n" % framing)
        await raw.send(half)
        raw.send_eof()
        assert b" 2" not in (await raw.receive_rest())[:13]
        assert trio.current_time() - began < AT_ONCE, "it waited for a deadline"


@at_once
async def test_a_body_in_tiny_chunks(port: int) -> None:
    """Each chunk costs as much as a small request."""
    head = b"POST /api/jobs/a HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
    assert await refusal_status(port, head + b"1\r\nx\r\n" * 1_000) == 400
    get = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
    assert await refusal_status(port, get + b"1\r\nx\r\n" * 1_000) == 400
    body = b'{"message":"%b"}' % (b"x" * 500)
    async with connect(port) as raw:
        for size in (7, 64, 1_000):  # a small body may arrive in pieces of any size
            parts = [body[at : at + size] for at in range(0, len(body), size)]
            chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
            await raw.send(head + chunks + b"0\r\n\r\n")
            assert (await raw.receive_response())[0] == 200


async def test_a_body_that_never_ends_and_never_waits(port: int, limits: Limits) -> None:
    """The deadline applies even if there is always something to read."""
    head = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
    chunk = b"1;%b\r\nx\r\n" % (b"e" * 8_000)
    async with connect(port) as raw:
        await raw.send(head)
        with trio.fail_after(PATIENCE), suppress(Reset, OSError):
            while True:
                await raw.send(chunk)
                await trio.sleep(limits.body_timeout / 50)
        status, _, _ = await raw.receive_response()
        assert status in (400, 408)


async def test_an_endless_head_is_431(port: int, limits: Limits) -> None:
    async with connect(port) as raw:
        await raw.send(b"GET / HTTP/1.1\r\nx: ")
        with trio.fail_after(PATIENCE):
            await raw.send(b"x" * (2 * limits.max_head))
        assert (await raw.receive_head())[0] == 431


async def test_an_oversized_head_is_431(port: int, limits: Limits) -> None:
    filler = "x" * limits.max_head
    for request in (
        f"GET / HTTP/1.1\r\nhost: localhost\r\nx: {filler}\r\n\r\n".encode(),
        upgrade(x=filler),
    ):
        async with connect(port) as raw:
            await raw.send(request)
            assert (await raw.receive_head())[0] in (400, 431)


@at_once
@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (upgrade(sec_websocket_key=""), 400),
        (upgrade(sec_websocket_version=""), 400),
        (upgrade(sec_websocket_version="8"), 426),
        (upgrade(connection="keep-alive"), 400),
        (upgrade(host=""), 400),
        (upgrade().replace(b"GET", b"POST"), 400),
        (upgrade().replace(b"127.0.0.1", b"\xff"), 400),
        (upgrade(sec_websocket_protocol="?").replace(b"?", b"\xff"), 400),
        (upgrade(sec_websocket_key="short"), 400),
    ],
)
async def test_an_invalid_upgrade_is_refused_immediately(
    port: int, request_: bytes, status: int
) -> None:
    assert await refusal_status(port, request_) == status


@pytest.mark.parametrize("before", [1, 3])
async def test_an_upgrade_after_other_requests(port: int, before: int) -> None:
    """A proxy that keeps its connections open sends other requests before the upgrade."""
    async with connect(port) as raw:
        for _ in range(before):
            await raw.send(
                b"POST /api/jobs/a HTTP/1.1\r\nhost: localhost\r\ncontent-length: 12\r\n\r\n"
            )
            await raw.send(b'{"lease":30}')
            assert (await raw.receive_response())[0] == 200
        await raw.send(upgrade() + command("ping"))
        assert (await raw.receive_head())[0] == 101
        client = WebSocketClient(raw)
        assert await client.receive_type("pong")
        await client.close()


async def test_a_request_right_after_a_response_is_answered(port: int) -> None:
    """The page is sent by a task that the library cancels as soon as it is sent."""
    async with connect(port) as raw:
        for _ in range(20):
            await raw.send(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert (await raw.receive_response())[0] == 200
            await raw.send(
                b"POST /api/jobs/a HTTP/1.1\r\nhost: localhost\r\n"
                b'content-length: 13\r\n\r\n{"percent":1}'
            )
            assert (await raw.receive_response())[0] == 200


async def test_requests_and_an_upgrade_in_one_segment_are_answered(port: int) -> None:
    request = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"
    async with connect(port) as raw:
        await raw.send(request * 2 + upgrade() + command("ping"))
        for _ in range(2):
            assert (await raw.receive_response())[0] == 200
        assert (await raw.receive_head())[0] == 101
        client = WebSocketClient(raw)
        assert await client.receive_type("pong")
        await client.close()


@at_once
@pytest.mark.parametrize(
    ("data", "status"),
    [(b"\0\1\2", 400), (b"GET\r\n\r\n", 400), (upgrade(sec_websocket_key=""), 400)],
)
async def test_an_invalid_request_after_a_valid_one_is_refused(
    port: int, data: bytes, status: int
) -> None:
    async with connect(port) as raw:
        await raw.send(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert (await raw.receive_response())[0] == 200
        await raw.send(data)
        assert (await raw.receive_response())[0] == status
        assert await raw.receive_rest() == b""


async def test_a_partial_head_after_a_request_is_closed(port: int) -> None:
    async with connect(port) as raw:
        await raw.send(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert (await raw.receive_response())[0] == 200
        await raw.send(b"GET / HTTP/1.1\r\nho")
        assert (await raw.receive_response())[0] == 408


# Early and late bytes


async def test_commands_sent_with_the_request_are_answered(port: int) -> None:
    async with connect(port) as raw:
        await raw.send(upgrade() + command("ping") + command("sync_subscriptions", jobs=[JOB]))
        assert (await raw.receive_head())[0] == 101
        client = WebSocketClient(raw)
        assert (await client.receive())["type"] == "welcome"
        assert await client.receive() == {"type": "pong"}
        assert (await client.receive())["added"] == [JOB]
        assert (await client.receive())["job"] == JOB
        await client.close()


async def test_a_request_in_pieces_is_answered(port: int) -> None:
    async with connect(port) as raw:
        for byte in upgrade() + command("ping"):
            await raw.send(bytes([byte]))
        assert (await raw.receive_head())[0] == 101
        client = WebSocketClient(raw)
        assert await client.receive_type("pong")
        await client.close()


async def test_a_request_followed_by_eof_is_answered(port: int) -> None:
    async with connect(port) as raw:
        await raw.send(upgrade() + close_frame(1000) + command("ping"))
        assert (await raw.receive_head())[0] == 101
        assert await WebSocketClient(raw).close_code() == 1000


async def test_bytes_after_a_close_frame_are_ignored(port: int) -> None:
    for late in (command("ping"), frame(b"", PING), b"\xff" * 5_000, close_frame(1000)):
        async with open_client(port) as client:
            await client.receive_type("welcome")
            await client.raw.send(close_frame(1000) + late)
            assert await client.close_code() == 1000


# Resets


async def nothing(_: Raw) -> None:
    pass


async def half_a_head(raw: Raw) -> None:
    await raw.send(b"GET /ws HTTP/1.1\r\nho")


async def garbage(raw: Raw) -> None:
    await raw.send(b"\xff" * 10_000)


async def a_request(raw: Raw) -> None:
    await raw.send(upgrade())


async def a_bad_request(raw: Raw) -> None:
    await raw.send(upgrade(sec_websocket_key=""))


async def an_http_request(raw: Raw) -> None:
    await raw.send(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")


async def half_a_body(raw: Raw) -> None:
    await raw.send(b"POST /api/jobs/a HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n{")


async def a_stream(raw: Raw) -> None:
    await raw.send(b"GET /api/events?job=a HTTP/1.1\r\nhost: localhost\r\n\r\n")
    assert (await raw.receive_head())[0] == 200


async def a_long_poll(raw: Raw) -> None:
    await raw.send(b"GET /api/jobs/a?wait=30 HTTP/1.1\r\nhost: localhost\r\n\r\n")


async def a_websocket(raw: Raw) -> None:
    await raw.send(upgrade())
    await raw.receive_until(b"welcome")


async def commands(raw: Raw) -> None:
    await a_websocket(raw)
    await raw.send(command("subscribe", jobs=["other", JOB]) * 10 + command("ping") * 100)


async def half_a_frame(raw: Raw) -> None:
    await a_websocket(raw)
    await raw.send(command("ping")[:5])


async def half_a_message(raw: Raw) -> None:
    await a_websocket(raw)
    await raw.send(frame('{"type":', fin=False))


async def many_pings(raw: Raw) -> None:
    await a_websocket(raw)
    await raw.send(frame(b"", PING) * 50)


async def our_close(raw: Raw) -> None:
    await a_websocket(raw)
    await raw.send(close_frame())


async def its_close(raw: Raw) -> None:
    await a_websocket(raw)
    await raw.send(frame(b"", BINARY))
    await raw.receive_until(b"text frames only")


Phase = Callable[[Raw], Awaitable[None]]
PHASES: list[Phase] = [
    nothing,
    half_a_head,
    garbage,
    a_request,
    a_bad_request,
    an_http_request,
    half_a_body,
    a_stream,
    a_long_poll,
    a_websocket,
    commands,
    half_a_frame,
    half_a_message,
    many_pings,
    our_close,
    its_close,
]


@pytest.mark.parametrize("how", ["reset", "close", "send_eof"])
@pytest.mark.parametrize("phase", PHASES)
async def test_a_client_that_leaves_in_any_phase_leaves_no_resources(
    port: int, phase: Phase, how: str
) -> None:
    for _ in range(3):
        async with connect(port) as raw:
            await phase(raw)
            getattr(raw, how)()
            if how == "send_eof":
                with suppress(Reset):
                    await raw.receive_rest()


# Frames that break the protocol


@at_once
@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(b"\0\1\2", BINARY), 1003),
        (frame(b"\xff\xfe"), 1007),
        (frame(b"\xc3", fin=False) + frame(b"\x28", 0), 1007),
        (frame("{}", rsv=4), 1002),
        (frame("{}", rsv=1), 1002),
        (frame("{}", 3), 1002),
        (frame(b"", 11), 1002),
        (frame("{}", masked=False), 1002),
        (frame("{}", 0), 1002),  # a continuation without a first frame
        (frame("{", fin=False) + frame("{}"), 1002),
        (frame("{", fin=False) + frame("{}", BINARY), 1002),
        (frame(b"x" * 126, PING), 1002),
        (frame(b"", PING, fin=False), 1002),
        (b"\x81\xfe\x00\x05\0\0\0\0hello", 1002),  # a length that is not encoded minimally
        (b"\x81\xff" + b"\xff" * 8 + b"\0\0\0\0", 1002),  # a length of 2**64 - 1
        (frame(b"\x03", 8), 1002),  # a close frame of one byte
        (frame(b"\x03\xe7", 8), 1002),  # 999
        (frame(b"\x03\xed", 8), 1002),  # 1005 must not be sent
        (frame(b"\x03\xe8\xff", 8), 1007),
    ],
)
async def test_an_invalid_frame_closes_with_1002(port: int, data: bytes, code: int) -> None:
    async with open_client(port) as client:
        await client.receive_type("welcome")
        began = trio.current_time()
        await client.raw.send(data + command("ping"))
        assert await client.close_code() == code
        assert trio.current_time() - began < AT_ONCE, "it waited for a deadline"


@pytest.mark.parametrize("fragment", [100_000, 1_000, 125])
async def test_an_oversized_message_closes_with_1009(
    port: int, limits: Limits, fragment: int
) -> None:
    text = b"x" * (limits.max_frame + 1)
    parts = [text[start : start + fragment] for start in range(0, len(text), fragment)]
    frames = [
        frame(part, 0 if number else TEXT, fin=number == len(parts) - 1)
        for number, part in enumerate(parts)
    ]
    async with open_client(port) as client:
        await client.receive_type("welcome")
        await client.raw.send(b"".join(frames))
        assert await client.close_code() == 1009


async def test_a_message_oversized_only_in_bytes_closes_with_1009(
    port: int, limits: Limits
) -> None:
    async with open_client(port) as client:
        await client.receive_type("welcome")
        await client.raw.send(frame("ü" * (limits.max_frame // 2 + 1)))
        assert await client.close_code() == 1009


async def test_a_message_of_the_maximum_size_is_accepted(port: int, limits: Limits) -> None:
    async with open_client(port) as client:
        await client.receive_type("welcome")
        text = '{"type":"ping","x":""}'
        text = text.replace('""', f'"{"x" * (limits.max_frame - len(text))}"')
        await client.raw.send(frame(text))
        assert await client.receive() == {"type": "pong"}


async def test_an_oversized_frame_header_closes_immediately(port: int) -> None:
    """The header announces a terabyte, which is not buffered."""
    async with open_client(port) as client:
        await client.receive_type("welcome")
        await client.raw.send(b"\x81\xff" + (1 << 40).to_bytes(8, "big") + b"\0\0\0\0")
        await client.raw.send(b"x" * 100_000)
        assert await client.close_code() == 1009


async def test_control_frames_between_fragments_are_answered(port: int) -> None:
    async with open_client(port) as client:
        await client.receive_type("welcome")
        await client.raw.send(
            frame('{"ty', fin=False)
            + frame("between", PING)
            + frame("unasked", PONG)
            + frame('pe":"ping"}', 0)
        )
        assert await client.receive() == {"type": "pong"}
        await client.close()


async def test_a_ping_during_the_close_is_ignored(port: int) -> None:
    async with open_client(port) as client:
        await client.receive_type("welcome")
        await client.raw.send(frame(b"", BINARY) + frame("now", PING) * 3 + command("ping"))
        assert await client.close_code() == 1003
    async with open_client(port) as client:  # after the client has sent its close frame
        await client.receive_type("welcome")
        await client.raw.send(frame(b"", BINARY))
        await client.raw.receive_until(b"text frames only")
        try:
            await client.raw.send(frame("now", PING) * 3 + frame(b"\xff") + b"\xff" * 100)
            assert await client.raw.receive_rest() == b""
        except Reset:
            pass


async def test_a_client_that_does_not_answer_the_close_is_aborted(port: int) -> None:
    async with open_client(port) as client:
        await client.receive_type("welcome")
        await client.raw.send(frame(b"", BINARY))
        await client.raw.receive_until(b"text frames only")
        assert await client.raw.receive_rest() == b""


# Floods


without_allowance = pytest.mark.parametrize(
    "limits", [Limits(write_timeout=0.5, commands_per_second=1e6, command_burst=1_000_000)]
)
"""Floods that would fill the memory if nothing slowed the client down."""


@without_allowance
@pytest.mark.parametrize(
    "flood",
    [
        command("subscribe", id="x" * 100, jobs=["other", "a", "b"]) * 100,  # answers
        frame(b"x" * 100, PING) * 100,  # pongs
    ],
)
async def test_a_flood_by_a_client_that_never_reads_is_bounded(
    gateway: Gateway, port: int, limits: Limits, flood: bytes
) -> None:
    """TCP slows the client, nothing accumulates, and the gateway disconnects the client at the
    write deadline."""
    messages = sent_bytes = 0
    async with open_client(port, receive_buffer=4096) as client:
        with trio.fail_after(PATIENCE), suppress(Reset):
            while True:
                accepted_bytes = client.raw.send_some(flood[sent_bytes % len(flood) :])
                sent_bytes += accepted_bytes
                if not accepted_bytes:  # full: the gateway reads no more
                    messages = max(messages, messages_alive())
                await trio.sleep(0 if accepted_bytes else limits.write_timeout / 20)
    assert messages < 10 * limits.max_replies
    assert sent_bytes < 32 * 1024 * 1024  # the socket buffers of both sides, and no more


def messages_alive() -> int:
    """Returns the number of message objects in the gateway."""
    return sum(isinstance(thing, Message) for thing in gc.get_objects())


def is_answer(id_: int, object_: Json) -> bool:
    return object_.get("id") == id_


async def test_many_short_subscriptions_leave_no_memory(gateway: Gateway, port: int) -> None:
    async with open_client(port) as client:
        await client.receive_type("welcome")
        for number in range(200):
            await client.send("sync_subscriptions", id=number, jobs=[f"{number}:{n}" for n in "ab"])
            await client.receive_until(partial(is_answer, number))
        assert gateway.node.statistics().hub.subscriptions == 3  # including the other client's
