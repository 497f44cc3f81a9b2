"""Runs the work of a command until a signal stops it.

The first SIGINT or SIGTERM cancels the work, which then shuts down; the second one ends the process
at once.
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from math import inf

import trio
from attrs import define, field

__all__ = ["Stop", "run_until_signal"]


@define
class Stop:
    """Cancels work once, after a delay during which the work continues."""

    delay: float = 0.0
    """Seconds from `request` until the work is cancelled."""
    on_request: Callable[[], None] = lambda: None
    """Called by the first request that has a delay."""
    scope: trio.CancelScope = field(factory=trio.CancelScope, init=False)

    def request(self, *, at_once: bool = False) -> None:
        """Cancels the work after `delay`, or `at_once`. Another call can only make it earlier."""
        if at_once or not self.delay:
            self.scope.cancel()
        elif self.scope.deadline == inf:
            self.on_request()
            self.scope.deadline = trio.current_time() + self.delay


def run_until_signal(
    work: Callable[[], Awaitable[None]],
    *,
    stop: Stop | None = None,
    at_once: Callable[[], None] = lambda: None,
) -> signal.Signals | None:
    """Runs `work` in Trio until it ends or a signal stops it; returns that signal.

    Args:
        work: The function to run, in the scope of `stop`.
        stop: SIGTERM cancels the work after `stop.delay`; SIGINT cancels it immediately, because a
            user has pressed Ctrl-C.
        at_once: Called before a second signal ends the process.

    Raises:
        Exception: The exception of `work`, without the groups in which nurseries wrap it.
    """
    try:
        return trio.run(_until_signal, work, stop or Stop(), at_once)
    except BaseExceptionGroup as group:
        raise _single_leaf(group) from None


async def _until_signal(
    work: Callable[[], Awaitable[None]], stop: Stop, at_once: Callable[[], None]
) -> signal.Signals | None:
    received_so_far: list[signal.Signals] = []
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        # Signals are received outside of the cancelled scope, so also while the work shuts down.
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_handle_signals, signals, stop, received_so_far, at_once)
            with stop.scope:
                await work()
            nursery.cancel_scope.cancel()
    return received_so_far[0] if received_so_far else None


async def _handle_signals(
    signals: AsyncIterator[int],
    stop: Stop,
    received_so_far: list[signal.Signals],
    at_once: Callable[[], None],
) -> None:
    async for number in signals:
        if received_so_far:
            at_once()
            os._exit(128 + number)
        received_so_far.append(signal.Signals(number))
        stop.request(at_once=number == signal.SIGINT)


def _single_leaf(error: BaseException) -> BaseException:
    """Returns the only exception in a group, also if groups are nested; otherwise the group."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
