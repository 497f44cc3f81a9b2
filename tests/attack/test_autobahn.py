"""The Autobahn|Testsuite's fuzzing client against our WebSockets: some 250 ways to be wrong.

It wants an echo, so here an echo sits where the node does; all below it is ours, or
hypercorn's and ours. It is a program for Python 2.7: `GATEWAY_TEST_AUTOBAHN` is that
interpreter and the folder into which the suite was installed, `.ci/run` tries to. Left out
are the groups about deflate, which we do not speak, and about speed; and the gateway takes
no binary messages.
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

from gateway import Limits, endings
from gateway.connection import ConnectionEnds, Sink, Source
from gateway.errors import TransportClosed
from gateway.protocol import Message
from gateway.transports.asgi import serve_asgi_websocket
from gateway.transports.head import BadHead, read_head, refuse
from gateway.transports.http import Receive, Scope, Send
from gateway.transports.stream import ClientStream
from gateway.transports.trio_ws import serve_websocket
from tests.e2e.client import PING, Reset, frame, open_client

FOUND = os.environ.get("GATEWAY_TEST_AUTOBAHN", "").split()
LIMITS = Limits(commands_per_second=1e6, command_burst=1_000_000, max_message=128 * 1024)
FINE = {"OK", "NON-STRICT", "INFORMATIONAL"}
WITHIN = 180.0


class Echo:
    """Stands where a node does: says whatever is said to it."""

    name = "echo"
    limits = LIMITS

    @property
    def gate(self) -> Echo:
        return self

    async def welcome(self, headers: Any) -> None:
        await trio.lowlevel.checkpoint()

    async def serve(self, source: Source, sink: Sink, **more: Any) -> None:
        try:
            while True:
                text = await source.receive()
                if not sink.send([Message((text.encode(),))]):
                    await sink.flush()
        except ConnectionEnds as error:
            await sink.close(error.ending)
        except TransportClosed:
            await sink.close(endings.NORMAL)


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
        await serve_websocket(stream, head, node, turnstile=trio.Semaphore(10))
    except BadHead as error:
        await refuse(stream, error.status)
    except trio.BrokenResourceError:
        stream.abort()


@asynccontextmanager
async def hypercorns() -> AsyncIterator[int]:
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.errorlog = logging.getLogger("hypercorn.error")  # nothing of this is an error
    config.accesslog = None
    config.websocket_max_message_size = LIMITS.max_message
    app: Any = _app
    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(partial(hypercorn.trio.serve, app, config))
        yield int(url.rpartition(":")[2])
        nursery.cancel_scope.cancel()


async def _app(scope: Scope, receive: Receive, send: Send) -> None:
    node: Any = Echo()
    if scope["type"] == "websocket":
        await serve_asgi_websocket(scope, receive, send, node=node)
    else:  # of a lifespan there is nothing to hear but the beginning
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await trio.sleep_forever()


SERVERS = {"our-port": our_port, "hypercorn": hypercorns}


@pytest.mark.parametrize("server", SERVERS)
async def test_no_case_fails(server: str, tmp_path: Path) -> None:
    if len(FOUND) != 2:
        pytest.skip("GATEWAY_TEST_AUTOBAHN does not say where Python 2.7 and the suite are")
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
async def test_a_client_that_breaks_the_protocol_while_it_is_answered(server: str) -> None:
    """The suite's case 4.2.3, so often that some meet the answer on its way."""
    async with SERVERS[server]() as port:
        for _ in range(50):
            async with open_client(port) as client:
                with suppress(Reset):
                    await client.raw.send(frame("say") + frame("", 5) + frame("late", PING))
                    await client.raw.rest()


async def _fuzz(port: int, folder: Path) -> dict[str, Any]:
    """What became of each case at a server on this port."""
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
