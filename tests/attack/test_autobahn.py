"""The Autobahn|Testsuite's fuzzing client against our WebSocket: some 250 ways to be wrong.

It wants an echo, so here an echo sits where the node does; all below it is ours. It is a
program for Python 2.7: `GATEWAY_TEST_AUTOBAHN` is that interpreter and the folder into
which the suite was installed, `.ci/run` tries to. Left out are the groups about deflate,
which we do not speak, and about speed; and ours takes no binary messages.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
import trio

from gateway import Limits, endings
from gateway.connection import ConnectionEnds, Sink, Source
from gateway.errors import TransportClosed
from gateway.protocol import Message
from gateway.transports.head import BadHead, read_head, refuse
from gateway.transports.stream import ClientStream
from gateway.transports.trio_ws import serve_websocket

FOUND = os.environ.get("GATEWAY_TEST_AUTOBAHN", "").split()
LIMITS = Limits(commands_per_second=1e6, command_burst=1_000_000, max_message=128 * 1024)
FINE = {"OK", "NON-STRICT", "INFORMATIONAL"}
WITHIN = 180.0


class Echo:
    """Stands where a node does: says whatever is said to it."""

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


async def test_no_case_fails(tmp_path: Path) -> None:
    if len(FOUND) != 2:
        pytest.skip("GATEWAY_TEST_AUTOBAHN does not say where Python 2.7 and the suite are")
    interpreter, packages = FOUND
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        spec = {
            "outdir": str(tmp_path / "out"),
            "servers": [
                {"agent": "gateway", "url": f"ws://127.0.0.1:{listener.getsockname()[1]}/ws"}
            ],
            "cases": ["*"],
            "exclude-cases": ["9.*", "12.*", "13.*"],
            "exclude-agent-cases": {},
        }
        (tmp_path / "spec.json").write_text(json.dumps(spec))
        run = "from autobahntestsuite.wstest import run; run()"
        arguments = ["-c", run, "-m", "fuzzingclient", "-s", str(tmp_path / "spec.json")]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_accept, listener)
            with trio.fail_after(WITHIN):
                done = await trio.run_process(
                    [interpreter, *arguments],
                    env={"PYTHONPATH": packages, "PATH": os.environ["PATH"]},
                    cwd=tmp_path,
                    capture_stdout=True,
                    stderr=subprocess.STDOUT,
                )
            nursery.cancel_scope.cancel()
    report = tmp_path / "out" / "index.json"
    assert report.exists(), done.stdout.decode()
    cases = json.loads(report.read_text())["gateway"]
    failed = {
        case: (result["behavior"], result["behaviorClose"])
        for case, result in cases.items()
        if not {result["behavior"], result["behaviorClose"]} <= FINE
    }
    binary = {case for case in failed if case.startswith("1.2.")}
    assert len(cases) > 240
    assert all(cases[case]["remoteCloseCode"] == 1003 for case in binary)
    assert set(failed) - binary == set(), failed


async def _accept(listener: socket.socket) -> None:
    async with trio.open_nursery() as nursery:
        while True:
            await trio.lowlevel.wait_readable(listener)
            sock, _ = listener.accept()
            sock.setblocking(False)
            nursery.start_soon(_serve, sock)
