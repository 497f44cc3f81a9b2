"""The Autobahn|Testsuite's fuzzing client against our WebSocket transports: some 250 protocol
errors.

The suite needs an echo server, so an echo replaces the node. Below the echo are either the
gateway's own transports, or hypercorn with the gateway's ASGI transport. The suite is a program for
Python 2.7: `GATEWAY_TEST_AUTOBAHN` names that interpreter and the folder of the suite, and
`.ci/run` tries to install it. The groups about deflate, which the gateway does not support, and
about speed are left out, and the gateway accepts no binary messages.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import hypercorn.trio
import pytest
import trio
from hypercorn.config import Config
from trio_websocket import ConnectionClosed, WebSocketRequest, serve_websocket

from gateway import Limits
from gateway.delivery.transport import ConnectionEnds, Sink, Source
from gateway.model.errors import TransportClosed
from gateway.observability.counters import Counters
from gateway.protocol import close_codes
from gateway.protocol.messages import Message
from gateway.transports.asgi_types import Receive, Scope, Send
from gateway.transports.asgi_websocket import serve_asgi_websocket
from gateway.transports.request_head import BadRequest, read_head, refuse
from gateway.transports.stream import ClientStream
from gateway.transports.trio_websocket import serve_trio_websocket
from gateway.transports.websocket import accept_websocket
from tests.e2e.client import PING, Reset, frame, open_client

FOUND = os.environ.get("GATEWAY_TEST_AUTOBAHN", "").split()
LIMITS = Limits(commands_per_second=1e6, command_burst=1_000_000, max_frame=128 * 1024)
FINE = {"OK", "NON-STRICT", "INFORMATIONAL"}
WITHIN = 180.0


class Echo:
    """Replaces a node, and echoes what a client sends."""

    name = "echo"
    limits = LIMITS
    counters = Counters()

    @property
    def authenticator(self) -> Echo:
        return self

    async def authenticate(self, headers: Any) -> None:
        await trio.lowlevel.checkpoint()

    async def serve(self, source: Source, sink: Sink, **more: Any) -> None:
        try:
            while True:
                text = await source.receive()
                if not sink.send([Message((text.encode(),))]):
                    await sink.flush()
        except ConnectionEnds as error:
            await sink.close(error.close_code)
        except TransportClosed:
            await sink.close(close_codes.NORMAL)


@asynccontextmanager
async def our_port() -> AsyncIterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_accept, listener)
            yield listener.getsockname()[1]
            nursery.cancel_scope.cancel()


async def _accept(listener: socket.socket) -> None:
    async with trio.open_nursery() as nursery:
        while True:
            await trio.lowlevel.wait_readable(listener)
            sock, _ = listener.accept()
            sock.setblocking(False)
            nursery.start_soon(_serve, sock)


async def _serve(sock: socket.socket) -> None:
    stream = ClientStream(sock, limits=LIMITS)
    node: Any = Echo()
    try:
        head = await read_head(stream, LIMITS)
        await (await accept_websocket(stream, head, node, address="")).serve()
    except BadRequest as error:
        await refuse(stream, error)
    except trio.BrokenResourceError:
        stream.abort()


@asynccontextmanager
async def hypercorns() -> AsyncIterator[int]:
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.errorlog = logging.getLogger("hypercorn.error")  # none of these is an error
    config.accesslog = None
    config.websocket_max_message_size = LIMITS.max_frame
    app: Any = _app
    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(partial(hypercorn.trio.serve, app, config))
        yield int(url.rpartition(":")[2])
        nursery.cancel_scope.cancel()


async def _app(scope: Scope, receive: Receive, send: Send) -> None:
    node: Any = Echo()
    if scope["type"] == "websocket":
        await serve_asgi_websocket(scope, receive, send, node=node)
    else:  # the lifespan: only its start is received
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await trio.sleep_forever()


@asynccontextmanager
async def trio_websockets() -> AsyncIterator[int]:
    node: Any = Echo()

    async def serve(request: WebSocketRequest) -> None:
        with suppress(ConnectionClosed):
            ws = await request.accept()
            await serve_trio_websocket(ws, node, headers=request.headers, host="localhost")

    async with trio.open_nursery() as nursery:
        serve_at = partial(serve_websocket, max_message_size=LIMITS.max_frame)
        listen = partial(serve_at, serve, "127.0.0.1", 0, None)
        server = await nursery.start(listen)
        yield server.port
        nursery.cancel_scope.cancel()


SERVERS = {"our-port": our_port, "hypercorn": hypercorns, "trio-websocket": trio_websockets}


@pytest.mark.skipif(
    len(FOUND) != 2, reason="GATEWAY_TEST_AUTOBAHN does not say where Python 2.7 and the suite are"
)
@pytest.mark.parametrize("server", SERVERS)
async def test_no_autobahn_case_fails(server: str, tmp_path: Path) -> None:
    async with SERVERS[server]() as port:
        cases = await _fuzz(port, tmp_path)
    failed = {
        case: (result["behavior"], result["behaviorClose"])
        for case, result in cases.items()
        if not {result["behavior"], result["behaviorClose"]} <= FINE
    }
    binary = {case for case in failed if case.startswith("1.2.")}
    assert len(cases) > 240
    assert all(cases[case]["remoteCloseCode"] == 1003 for case in binary)
    assert set(failed) - binary == set(), failed


@pytest.mark.parametrize("server", SERVERS)
async def test_a_protocol_error_while_a_response_is_sent(server: str) -> None:
    """Repeats the suite's case 4.2.3 so often that some errors arrive while a response is being
    sent."""
    async with SERVERS[server]() as port:
        for _ in range(50):
            async with open_client(port) as client:
                with suppress(Reset):
                    await client.raw.send(frame("say") + frame("", 5) + frame("late", PING))
                    await client.raw.receive_rest()


async def _fuzz(port: int, folder: Path) -> dict[str, Any]:
    """Returns the result of each case for a server on this port."""
    interpreter, packages = FOUND
    spec = {
        "outdir": str(folder / "out"),
        "servers": [{"agent": "gateway", "url": f"ws://127.0.0.1:{port}/ws"}],
        "cases": ["*"],
        "exclude-cases": ["9.*", "12.*", "13.*"],
        "exclude-agent-cases": {},
    }
    (folder / "spec.json").write_text(json.dumps(spec))
    run = "from autobahntestsuite.wstest import run; run()"
    arguments = ["-c", run, "-m", "fuzzingclient", "-s", str(folder / "spec.json")]
    with trio.fail_after(WITHIN):
        done = await trio.run_process(
            [interpreter, *arguments],
            env={"PYTHONPATH": packages, "PATH": os.environ["PATH"]},
            cwd=folder,
            capture_stdout=True,
            stderr=subprocess.STDOUT,
        )
    report = folder / "out" / "index.json"
    assert report.exists(), done.stdout.decode()
    cases: dict[str, Any] = json.loads(report.read_text())["gateway"]
    return cases
