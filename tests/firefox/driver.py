"""A headless Firefox, driven by WebDriver BiDi: JSON messages that it takes over a WebSocket."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio_websocket import WebSocketConnection, open_websocket_url

__all__ = ["Tab", "firefox"]

STARTED = re.compile(rb"WebDriver BiDi listening on (ws://\S+)")
DEADLINE = 60
"""Seconds for one step: far more than any step needs, so that only a hanging step fails."""


class Tab:
    """One tab, and what went wrong in it."""

    def __init__(self, socket: WebSocketConnection) -> None:
        self._socket = socket
        self._calls = 0
        self._context = ""
        self.complaints: list[str] = []
        """Errors and warnings of the console, and uncaught exceptions."""

    async def open(self) -> None:
        await self._call("session.new", capabilities={})
        await self._call("session.subscribe", events=["log.entryAdded"])
        self._context = (await self._call("browsingContext.create", type="tab"))["context"]

    async def goto(self, url: str) -> None:
        await self._call(
            "browsingContext.navigate", context=self._context, url=url, wait="complete"
        )

    async def resize(self, width: int, height: int) -> None:
        viewport = {"width": width, "height": height}
        await self._call("browsingContext.setViewport", context=self._context, viewport=viewport)

    async def run(self, script: str) -> None:
        """Executes statements; their value is not wanted."""
        await self.evaluate(f"(() => {{ {script}\n}})()")

    async def evaluate(self, expression: str, *, within: float = DEADLINE) -> Any:
        """Returns the value of a JavaScript expression, awaited if it is a promise."""
        answer = await self._call(
            "script.evaluate",
            expression=f"(async () => JSON.stringify(await ({expression})) ?? 'null')()",
            target={"context": self._context},
            awaitPromise=True,
            within=within,
        )
        assert answer["type"] == "success", answer
        return json.loads(answer["result"]["value"])

    async def wait_for_value(
        self, expression: str, expected: str | float, *, within: float = DEADLINE / 2
    ) -> None:
        """Waits until the expression has the expected value. It is evaluated in each frame; an
        expression that throws counts as not equal."""
        value = json.dumps(expected)
        wait = f"""new Promise((done) => {{
          const value = () => {{ try {{ return {expression}; }} catch {{ return undefined; }} }};
          const look = () => value() === {value} ? done() : requestAnimationFrame(look);
          look();
        }})"""
        with trio.move_on_after(within) as scope:
            await self.evaluate(wait, within=within + DEADLINE)
        if scope.cancelled_caught:
            assert await self.evaluate(expression) == expected

    async def _call(self, method: str, *, within: float = DEADLINE, **params: Any) -> Any:
        self._calls += 1
        number = self._calls
        message = {"id": number, "method": method, "params": params}
        with trio.fail_after(within):
            await self._socket.send_message(json.dumps(message))
            while True:
                answer = json.loads(await self._socket.get_message())
                if answer.get("method") == "log.entryAdded":
                    entry = answer["params"]
                    if entry["level"] in {"error", "warn"}:
                        self.complaints.append(entry["text"])
                elif answer.get("id") == number:
                    assert answer["type"] == "success", answer
                    return answer["result"]


@asynccontextmanager
async def firefox(profile: Path) -> AsyncIterator[Tab]:
    """Yields a tab of a Firefox with an empty profile, or skips the test. The process is killed at
    the end."""
    executable = shutil.which("firefox-esr") or shutil.which("firefox")
    if executable is None:
        pytest.skip("needs Firefox on the PATH: apt install firefox-esr")
    options = ("--headless", "--no-remote", "--profile", str(profile))
    process = await trio.lowlevel.open_process(
        [executable, *options, "--remote-debugging-port", "0"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stderr is not None
    try:
        output = b""
        with trio.fail_after(DEADLINE):
            while (started := STARTED.search(output)) is None:
                output += await process.stderr.receive_some()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_drain, process.stderr)
            async with open_websocket_url(f"{started[1].decode()}/session") as socket:
                tab = Tab(socket)
                await tab.open()
                yield tab
                nursery.cancel_scope.cancel()
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        with trio.CancelScope(shield=True):
            await process.wait()


async def _drain(stream: trio.abc.ReceiveStream) -> None:
    while await stream.receive_some():
        pass
