"""Clients as they should be: each comes back by itself, to either node, with its positions.

What each sees goes into its account, unjudged. A client goes by the last frame it got; if
that broke a rule the account shows it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import count
from typing import Literal

import trio
from attrs import define, field

from tests.e2e.client import Client, Closed, Reset, connect, upgrade

from .accounts import Account, Ended, Json, Opened, Sight, Told

__all__ = ["Bell", "Watcher"]

LONGEST_PAUSE = 0.5
"""Before a client dials again: full jitter, as in a browser, but ten times as fast."""
PING_EVERY = 1.5
"""An alert client asks whether its node is there, so that it notices in no time."""
ALERT, PATIENT = 6.0, 120.0
"""Seconds without a word after which a client gives its node up; a patient one never does."""


class Bell:
    """Rung when somebody has seen something; for whoever waits until something holds."""

    def __init__(self) -> None:
        self._rung = trio.Event()

    def ring(self) -> None:
        self._rung.set()
        self._rung = trio.Event()

    async def until(self, holds: Callable[[], bool]) -> None:
        while True:
            rung = self._rung
            if holds():
                return
            await rung.wait()


@define(eq=False)
class Watcher:
    """One client, which watches `jobs` until it is cancelled."""

    name: str
    mode: Literal["latest", "every"]
    jobs: Sequence[str]
    nodes: Callable[[], Sequence[tuple[str, int]]]
    """Where it may go, in turn: (name, port)."""
    clock: Callable[[], float]
    bell: Bell
    alert: bool = True
    states: dict[str, Json | None] = field(factory=dict)
    """What it was last told of each job."""
    node: str | None = None
    """Where it has a connection."""
    stale: bool = False
    """Whether it was last told that its feed is stale."""
    sights: list[Sight] = field(factory=list)
    _positions: dict[str, tuple[int | None, int]] = field(factory=dict)

    @property
    def account(self) -> Account:
        return Account(self.name, self.mode, tuple(self.sights))

    async def run(self) -> None:
        """Never returns."""
        for turn in count():
            nodes = self.nodes()
            node = nodes[turn % len(nodes)]
            try:
                await self._watch(*node)
            except* (Closed, Reset, OSError, trio.TooSlowError) as lost:
                why = "; ".join(str(error) or type(error).__name__ for error in lost.exceptions)
                self.node = None
                self._see(Ended(self.clock(), node[0], why))
            await trio.sleep(random.uniform(0, LONGEST_PAUSE))

    async def _watch(self, node: str, port: int) -> None:
        """One connection. Never returns; raises what ended it."""
        async with connect(port, patience=ALERT if self.alert else PATIENT) as raw:
            await raw.send(upgrade(subprotocol="progress.v1"))
            status, _ = await raw.head()
            if status != 101:
                raise Closed(None, f"the handshake was answered {status}")
            client = Client(raw, "progress.v1")
            self.node = node
            self._see(Opened(self.clock(), node))
            if self._positions:
                await client.say("hello", positions=self._positions)
            await client.say("sync_subscriptions", jobs=self.jobs, mode=self.mode)
            async with trio.open_nursery() as nursery:
                if self.alert:
                    nursery.start_soon(_keep_asking, client)
                while True:
                    said = await client.hear()
                    client.frames.clear()
                    if said["type"] == "ping":
                        await client.say("pong")
                    self._take(said)

    def _take(self, said: Json) -> None:
        if said["type"] == "pong":
            return
        if said["type"] == "progress":
            self._positions[said["job"]] = said["epoch"], said["seq"]
            self.states[said["job"]] = said["state"]
        elif said["type"] in ("welcome", "feed"):
            self.stale = bool(said.get("stale"))
        self._see(Told(self.clock(), said))

    def _see(self, sight: Sight) -> None:
        self.sights.append(sight)
        self.bell.ring()


async def _keep_asking(client: Client) -> None:
    while True:
        await trio.sleep(PING_EVERY)
        await client.say("ping")
