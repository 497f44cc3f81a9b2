"""All clients of a node, and how they are sent away when it leaves."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from . import endings
from .limits import Limits
from .outbox import Outbox
from .protocol import Message, encode

__all__ = ["Clients"]

log = logging.getLogger("gateway.clients")

STEPS = 20
"""In how many waves they are sent away, if they are many."""
WAVE = 100
"""Clients another node takes at once without noticing."""
HANDOVER = 2.0
"""Seconds within which a client is at another node, once it goes: a handshake over TLS from a
phone, and a second one if the balancer did not know yet that we leave."""


class Clients:
    """The outboxes of those who are served."""

    def __init__(self) -> None:
        self._outboxes: dict[Outbox, None] = {}
        self._none_left = trio.Event()
        self.leaving = trio.Event()
        """Set when they are to leave: whoever waits for something here shall go."""

    def __len__(self) -> int:
        return len(self._outboxes)

    def __repr__(self) -> str:
        return f"<{len(self)} clients{', leaving' if self.leaving.is_set() else ''}>"

    @contextmanager
    def served(self, outbox: Outbox) -> Iterator[None]:
        """One more, while the context is open."""
        self._outboxes[outbox] = None
        try:
            yield
        finally:
            del self._outboxes[outbox]
            if self.leaving.is_set() and not self._outboxes:
                self._none_left.set()

    def announce(self, message: Message) -> None:
        """Say something to all."""
        for outbox in self._outboxes:
            outbox.announce(message)

    async def leave(self, *, elsewhere: bool, limits: Limits) -> None:
        """Send them away, within `limits.drain_timeout`.

        If there are nodes `elsewhere` that serve the same jobs they are told to go, and
        served until they are there; otherwise, and who stays, is ended. Returns when all
        are gone or the time is up; what is left then is the caller's to cancel.
        """
        self.leaving.set()
        if not self._outboxes:
            return
        log.info("draining %d clients", len(self))
        with trio.move_on_after(limits.drain_timeout):
            if elsewhere:
                await self._let_go(limits)
            else:
                await self._send_away(limits)
            await self._none_left.wait()

    async def _let_go(self, limits: Limits) -> None:
        """Have them go by themselves, at random moments of a window that is the longer the
        more they are; then end who is left: it comes back within that window too."""
        drain = limits.drain_timeout
        window = round(drain / 2 * min(1.0, len(self) / (WAVE * STEPS)), 3)
        self._say_goaway((0.0, window))
        with trio.move_on_after(window + min(HANDOVER, drain / 4)):
            await self._none_left.wait()
        for outbox in list(self._outboxes):
            outbox.end(endings.GOING_AWAY)

    async def _send_away(self, limits: Limits) -> None:
        """End them, in waves: nobody else has what they watch."""
        leaving = list(self._outboxes)
        self._say_goaway(limits.retry)
        wave = max(WAVE, -(-len(leaving) // STEPS))
        for start in range(0, len(leaving), wave):
            if start:
                await trio.sleep(limits.drain_timeout / 2 / STEPS)
            for outbox in leaving[start : start + wave]:
                outbox.end(endings.GOING_AWAY)

    def _say_goaway(self, window: tuple[float, float]) -> None:
        self.announce(encode("goaway", code=endings.GOING_AWAY.code, retry=window))
