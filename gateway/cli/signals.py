"""How a command that goes on for ever is told to stop.

The first SIGINT or SIGTERM cancels its work, which then has its own time to end in order;
the second ends the process at once, whatever is still going on.
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable

import trio

__all__ = ["run_until_told"]


def run_until_told(
    work: Callable[[], Awaitable[None]], *, at_once: Callable[[], None] = lambda: None
) -> signal.Signals | None:
    """Run `work` in Trio until it ends or a signal cancels it; returns that signal.

    `at_once` is called before a second one ends the process. What `work` raises is raised,
    out of the groups that nurseries wrap it in.
    """
    try:
        return trio.run(_until_told, work, at_once)
    except BaseExceptionGroup as group:
        raise _only(group) from None


async def _until_told(
    work: Callable[[], Awaitable[None]], at_once: Callable[[], None]
) -> signal.Signals | None:
    told: list[signal.Signals] = []
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        # The watch is outside of what it cancels: it goes on while that ends.
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()
            nursery.start_soon(_obey, signals, scope, told, at_once)
            with scope:
                await work()
            nursery.cancel_scope.cancel()
    return told[0] if told else None


async def _obey(
    signals: AsyncIterator[int],
    scope: trio.CancelScope,
    told: list[signal.Signals],
    at_once: Callable[[], None],
) -> None:
    async for number in signals:
        if told:
            at_once()
            os._exit(128 + number)
        told.append(signal.Signals(number))
        scope.cancel()


def _only(error: BaseException) -> BaseException:
    """The one exception in a group of one, however deep; otherwise the group."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
