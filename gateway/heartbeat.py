"""Who is still there: the heartbeats of all clients of a node, in one task.

A client that has not been heard for `limits.ping_after` is pinged; one that is still silent
`limits.pong_within` later is ended. What is heard moves its deadline, but nothing is done
then: at the old deadline it is looked at, and given the new one. (A task for each client
would say the same in fewer lines, for 2 KiB of memory each.)
"""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import count
from math import inf
from typing import Protocol

import trio
from attrs import define

from . import endings
from .limits import Limits
from .outbox import Outbox
from .protocol import encode

__all__ = ["Heard", "Heartbeat"]

_PING = encode("ping")


class Heard(Protocol):
    """Whoever knows when a client was heard."""

    @property
    def heard_at(self) -> float | None: ...


@define(eq=False)
class _Pulse:
    """One client's."""

    source: Heard
    outbox: Outbox
    heard_at: float | None
    """When it was heard last, as of the last look."""
    pinged: bool = False


class Heartbeat:
    """One node's, while `run` is running. Times are on Trio's clock."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._pulses: dict[int, _Pulse] = {}
        self._due: list[tuple[float, int]] = []  # a heap; also of some that are gone
        self._numbers = count()
        self._sooner = trio.Event()

    def __repr__(self) -> str:
        return f"<Heartbeat of {len(self._pulses)}>"

    def add(self, source: Heard, outbox: Outbox) -> int:
        """Look after a client; returns what `remove` wants."""
        number = next(self._numbers)
        self._pulses[number] = _Pulse(source, outbox, source.heard_at)
        self._look_again(number)
        return number

    def remove(self, number: int) -> None:
        """Its connection has ended. Idempotent."""
        self._pulses.pop(number, None)

    async def run(self) -> None:
        """Ping and end who is silent, until cancelled."""
        while True:
            self._sooner = trio.Event()
            with trio.move_on_at(self._due[0][0] if self._due else inf):
                await self._sooner.wait()
            while self._due and self._due[0][0] <= trio.current_time():
                _, number = heappop(self._due)
                if number in self._pulses:
                    self._look(number)

    def _look(self, number: int) -> None:
        pulse = self._pulses[number]
        known, pulse.heard_at = pulse.heard_at, pulse.source.heard_at
        silent = pulse.heard_at == known  # or cannot be heard at all: then it is only pinged
        if silent and pulse.pinged and known is not None:
            pulse.outbox.end(endings.SILENT)
            return
        pulse.pinged = silent
        if silent:
            pulse.outbox.announce(_PING, ping=True)
        self._look_again(number)

    def _look_again(self, number: int) -> None:
        pulse, now = self._pulses[number], trio.current_time()
        if pulse.heard_at is None:
            at = now + self._limits.ping_after
        elif pulse.pinged:
            at = now + self._limits.pong_within
        else:
            at = pulse.heard_at + self._limits.ping_after
        heappush(self._due, (at, number))
        if self._due[0] == (at, number):
            self._sooner.set()
