"""Random input at every place where bytes of untrusted clients arrive: the head reader, the
commands, the frames, the HTTP API. Every answer must be a documented one.

Each example has its own node in this process, and socket pairs instead of a network, so it takes
milliseconds. Failures are reproducible: Hypothesis prints the smallest example.
"""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from struct import unpack
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway import Limits, MemoryBroker, Node
from gateway.http.api import create_http_app
from gateway.protocol.close_codes import CLOSE_CODES
from gateway.protocol.commands import parse_command, parse_update
from gateway.transports.connection_limits import ConnectionLimiter
from gateway.transports.http1 import HTTPServer
from gateway.transports.listener import _ListenerContext, _serve_guarded
from gateway.transports.proxies import Proxies
from gateway.transports.request_head import BadRequest, headers_in, read_head
from gateway.transports.stream import ClientStream
from tests.attack.complaints import complaint
from tests.e2e.client import close_frame, command, frame, upgrade

LIMITS = Limits(
    request_header_timeout=2, body_timeout=2, close_timeout=2, write_timeout=2, max_head=2_000
)
"""No example waits for a deadline: after incomplete input the connection is closed."""
fuzz_settings = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
NAMES = ["type", "jobs", "id", "mode", "token", "positions", "max_hz", "percent", "done", "data"]
TYPES = ["hello", "subscribe", "unsubscribe", "sync_subscriptions", "ping", "pong", "progress"]
objects = st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), json_values, max_size=5)
commands = st.builds(
    lambda type_, fields: json.dumps(fields | {"type": type_}),
    st.sampled_from(TYPES),
    objects,
)
texts = commands | json_values.map(json.dumps) | st.text(max_size=100)


@given(texts | st.binary(max_size=100))
def test_any_command_is_parsed_or_names_the_error(text: str | bytes) -> None:
    code = complaint(parse_command, text)
    assert code in (None, "invalid_json", "unknown_type", "invalid_command")


@given(objects.map(lambda it: json.dumps(it).encode()) | st.binary(max_size=100))
def test_any_update_is_parsed_or_names_the_error(text: bytes) -> None:
    assert complaint(parse_update, text) in (None, "invalid_json", "invalid_update", "invalid_job")


pieces = st.sampled_from(
    [b"GET ", b"/ws", b" HTTP/1.1", b" HTTP/2.0", b"\r\n", b"\n", b"\r", b"host: a", b": ",
     b"upgrade: websocket", b"upgrade: h2c", b"connection: upgrade", b"content-length: 3",
     b"x" * 3_000, b"\0", b"\x85", b"\xff", b"\r\n\r\n"]
) | st.binary(max_size=20)  # fmt: skip
streams = st.lists(pieces, max_size=12)


@fuzz_settings
@given(streams)
def test_any_request_head_is_parsed_or_refused(chunks: list[bytes]) -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        stream = ClientStream(ours, limits=LIMITS)
        with theirs:
            for chunk in chunks:
                theirs.send(chunk)
            theirs.shutdown(socket.SHUT_WR)
            try:
                with suppress(BadRequest):
                    head = await read_head(stream, LIMITS)
                    assert head in b"".join(chunks)
                    assert len(head) <= LIMITS.max_head
                    assert head.endswith(b"\n")
                    headers_in(head)
            finally:
                stream.abort()

    trio.run(main)


async def _talk(data: Sequence[bytes]) -> bytes:
    """Sends these bytes over one connection; returns all that the gateway sends."""
    node = Node(MemoryBroker(LIMITS), limits=LIMITS)
    http = HTTPServer(create_http_app(node), limits=LIMITS)
    connection_limiter = ConnectionLimiter(lambda: LIMITS)
    context = _ListenerContext(node, http, Proxies(), connection_limiter)
    ours, theirs = socket.socketpair()
    output = bytearray()
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        nursery.start_soon(connection_limiter.run)
        async with trio.open_nursery() as serving:
            serving.start_soon(_serve_guarded, ours, "127.0.0.1", context)
            client = trio.SocketStream(_Quiet(theirs))
            try:
                for part in data:
                    await client.send_all(part)
                await client.send_eof()
                with trio.fail_after(5):
                    async for more in client:
                        output += more
            except trio.BrokenResourceError:
                pass
            finally:
                theirs.close()
        nursery.cancel_scope.cancel()
    assert node.statistics().connections == 0
    assert node.statistics().hub.subscriptions == 0
    return bytes(output)


def _Quiet(sock: socket.socket) -> Any:  # noqa: N802 - a socket that Trio takes
    sock.setblocking(False)
    return trio.socket.from_stdlib_socket(sock)


@fuzz_settings
@given(streams)
def test_any_bytes_on_the_port_are_survived(
    caplog: pytest.LogCaptureFixture, chunks: list[bytes]
) -> None:
    output = trio.run(_talk, chunks)
    _check_quiet(caplog)
    assert not output or output.startswith(b"HTTP/1.1 ")
    if output:
        assert output[9:12] in (b"101", b"200", b"304", b"400", b"404", b"405", b"408", b"413",
                              b"426", b"431", b"403", b"501", b"505")  # fmt: skip


wire_frames = (
    st.builds(
        frame,
        texts.map(str.encode) | st.binary(max_size=130),
        st.sampled_from([0, 1, 1, 1, 2, 8, 9, 10]) | st.integers(0, 15),
        fin=st.booleans() | st.just(True),
        rsv=st.integers(0, 7) | st.just(0),
        masked=st.just(True) | st.booleans(),
    )
    | st.binary(max_size=30)
    | st.just(close_frame())
)


@fuzz_settings
@given(st.lists(commands.map(lambda it: frame(it)) | wire_frames, max_size=6))
def test_any_websocket_frames_are_survived(
    caplog: pytest.LogCaptureFixture, sent: list[bytes]
) -> None:
    output = trio.run(_talk, [upgrade(), command("subscribe", jobs=["a"]), *sent])
    _check_quiet(caplog)
    head, _, rest = output.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101")
    codes = {close_code.code for close_code in CLOSE_CODES}
    for opcode, payload in _frames(rest):
        if opcode == 8:
            assert unpack("!H", payload[:2])[0] in codes
        elif opcode == 1:
            assert "type" in json.loads(payload)
        else:
            assert opcode == 10


def _frames(data: bytes) -> list[tuple[int, bytes]]:
    """Returns the frames that a server sent. They must be complete, and nothing may follow a close
    frame."""
    frames: list[tuple[int, bytes]] = []
    while data:
        assert not frames or frames[-1][0] != 8, "something followed the close frame"
        opcode, size, start = data[0] & 0x0F, data[1], 2
        assert data[0] & 0xF0 == 0x80
        if size == 126:
            size, start = unpack("!H", data[2:4])[0], 4
        frames.append((opcode, data[start : start + size]))
        assert len(frames[-1][1]) == size
        data = data[start + size :]
    return frames


paths = st.sampled_from(
    ["/api/jobs", "/api/jobs/", "/api/jobs/a", "/api/jobs/a%20b", "/api/jobs/%ff", "/api/jobs/a/b",
     "/api/jobs/../x", "/api/events", "/api/revocations", "/healthz", "/readyz", "/", "/../x",
     "/%00"]
) | st.text("/ab%.:?", max_size=20).map(lambda it: f"/{it}")  # fmt: skip
values = st.sampled_from(
    ["a", "", "0", "-1", "nan", "1e999", "latest", "every", "running"]
) | st.text(max_size=10)
queries = st.lists(
    st.tuples(
        st.sampled_from(["job", "mode", "wait", "limit", "after", "prefix", "status"]), values
    ),
    max_size=4,
)
headers = st.dictionaries(
    st.sampled_from(["authorization", "origin", "if-none-match", "last-event-id", "range", "accept",
                     "content-type", "access-control-request-method"]),
    st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=30),
    max_size=3,
)  # fmt: skip
INSIDE = ("Traceback", "site-packages", ".py", "gateway.", "object at")


methods = st.sampled_from(["GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "BREW"])
bodies = objects.map(lambda it: json.dumps(it).encode()) | st.binary(max_size=50)


@settings(fuzz_settings, max_examples=200)
@given(methods, paths, queries, headers, bodies)
def test_any_http_request_is_survived(
    method: str, path: str, query: list[tuple[str, str]], given: dict[str, str], body: bytes
) -> None:
    """The application is called like an ASGI server calls it, so requests that an HTTP library
    would refuse reach it."""

    async def main() -> tuple[int, dict[str, str], bytes]:
        node = Node(MemoryBroker(LIMITS), limits=LIMITS)
        async with trio.open_nursery() as nursery:
            await nursery.start(node.run)
            try:
                with trio.fail_after(5):
                    return await _request(create_http_app(node), method, path, query, given, body)
            finally:
                nursery.cancel_scope.cancel()

    status, answered, content = trio.run(main)
    assert status < 500
    text = content.decode()
    if status >= 400 and method != "HEAD" and answered.get("content-type", "").startswith("appl"):
        problem = json.loads(text)
        assert problem["status"] == status
        assert problem["detail"]
        assert not any(secret in text for secret in INSIDE)


async def _request(
    app: Callable[..., Awaitable[None]],
    method: str,
    path: str,
    query: list[tuple[str, str]],
    given: dict[str, str],
    body: bytes,
) -> tuple[int, dict[str, str], bytes]:
    from urllib.parse import unquote, urlencode

    output: list[dict[str, Any]] = []
    bodies = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        await trio.lowlevel.checkpoint()
        return bodies.pop() if bodies else {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        await trio.lowlevel.checkpoint()
        output.append(message)

    # According to ASGI 2.4 a file is sent whatever `receive` returns. Here its client disconnects
    # at once.
    scope = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}, "http_version": "1.1",
        "method": method, "scheme": "http", "root_path": "",
        "path": unquote(path, errors="replace"), "raw_path": path.encode(),
        "query_string": urlencode(query).encode(),
        "headers": [(b"host", b"localhost")]
        + [(name.encode(), text.encode("latin-1")) for name, text in given.items()],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "state": {},
    }  # fmt: skip
    await app(scope, receive, send)
    answered = {name.decode(): text.decode("latin-1") for name, text in output[0]["headers"]}
    return output[0]["status"], answered, b"".join(part.get("body", b"") for part in output[1:])


def _check_quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Checks that the input of a client has caused no error in the log."""
    wrong = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert not wrong
