"""Correct clients: each reconnects automatically, to either node, with its positions.

A client records all that it receives in its log and does not judge it. It continues from the
last frame it received; if that frame broke a rule, the log shows it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import count
from typing import Literal

import trio
from attrs import define, field

from tests.e2e.client import Closed, Reset, WebSocketClient, connect, upgrade

from .client_logs import ClientLog, Connected, Disconnected, Json, Observation, Received

__all__ = ["Changes", "Watcher"]

MAX_RECONNECT_DELAY = 0.5
"""Maximum delay before a client reconnects: full jitter as in a browser, but ten times as fast."""
PING_EVERY = 1.5
"""Clients that send pings notice soon when their node does not answer."""
WITH_PINGS, WITHOUT_PINGS = 6.0, 120.0
"""Seconds without a message after which a client disconnects; without pings that never happens."""


class Changes:
    """Notified when any client has received something; tasks wait on it for a condition."""

    def __init__(self) -> None:
        self._changed = trio.Event()

    def notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def wait_until(self, holds: Callable[[], bool]) -> None:
        while True:
            changed = self._changed
            if holds():
                return
            await changed.wait()


@define(eq=False)
class Watcher:
    """One client, which watches `jobs` until it is cancelled."""

    name: str
    mode: Literal["latest", "every"]
    jobs: Sequence[str]
    nodes: Callable[[], Sequence[tuple[str, int]]]
    """The nodes to connect to, in turn: (name, port)."""
    clock: Callable[[], float]
    changes: Changes
    sends_pings: bool = True
    states: dict[str, Json | None] = field(factory=dict)
    """The last state received for each job."""
    node: str | None = None
    """The node to which it is connected."""
    stale: bool = False
    """Whether the last message about the feed said that it is stale."""
    observations: list[Observation] = field(factory=list)
    _positions: dict[str, tuple[int | None, int]] = field(factory=dict)

    @property
    def client_log(self) -> ClientLog:
        return ClientLog(self.name, self.mode, tuple(self.observations))

    async def run(self) -> None:
        """Watches over one connection after the other. Never returns."""
        for turn in count():
            nodes = self.nodes()
            node = nodes[turn % len(nodes)]
            try:
                await self._watch(*node)
            except* (Closed, Reset, OSError, trio.TooSlowError) as lost:
                why = "; ".join(str(error) or type(error).__name__ for error in lost.exceptions)
                self.node = None
                self._see(Disconnected(self.clock(), node[0], why))
            await trio.sleep(random.uniform(0, MAX_RECONNECT_DELAY))

    async def _watch(self, node: str, port: int) -> None:
        """Uses one connection. Never returns; raises the error that ended it."""
        async with connect(port, patience=WITH_PINGS if self.sends_pings else WITHOUT_PINGS) as raw:
            await raw.send(upgrade(subprotocol="progress.v1"))
            status, _ = await raw.receive_head()
            if status != 101:
                raise Closed(None, f"the handshake was answered {status}")
            client = WebSocketClient(raw, "progress.v1")
            self.node = node
            self._see(Connected(self.clock(), node))
            if self._positions:
                await client.send("hello", positions=self._positions)
            await client.send("sync_subscriptions", jobs=self.jobs, mode=self.mode)
            async with trio.open_nursery() as nursery:
                if self.sends_pings:
                    nursery.start_soon(_send_pings, client)
                while True:
                    message = await client.receive()
                    client.frames.clear()
                    if message["type"] == "ping":
                        await client.send("pong")
                    self._take(message)

    def _take(self, message: Json) -> None:
        if message["type"] == "pong":
            return
        if message["type"] == "progress":
            self._positions[message["job"]] = message["epoch"], message["seq"]
            self.states[message["job"]] = message["state"]
        elif message["type"] in ("welcome", "feed"):
            self.stale = bool(message.get("stale"))
        self._see(Received(self.clock(), message))

    def _see(self, observation: Observation) -> None:
        self.observations.append(observation)
        self.changes.notify()


async def _send_pings(client: WebSocketClient) -> None:
    while True:
        await trio.sleep(PING_EVERY)
        await client.send("ping")
