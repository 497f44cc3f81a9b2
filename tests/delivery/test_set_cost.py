"""What an event costs a node whose clients watch sets: it grows with what is shown, not with what
exists, nor with how many watch other sets.

It is counted, not timed: the gateway's calls of functions, its own and others, from the event's
arrival to the last frame, and frames. `python -m pytest tests/delivery/test_set_cost.py -s` prints
them.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from gateway import Limits
from gateway.model.state import Event, Position, State

from .harness import Harness, HarnessClient, messages_sent

SHOWN = 50
EVENTS = 5
"""Events of each kind: enough for the node's periodic work to matter little."""


class Cost(NamedTuple):
    """The average cost of one event, without the node's periodic work in the same time."""

    calls: float
    frames: float


def job(user: int, number: int) -> str:
    return f"user:{user}:{number:05}"


def old_event(user: int, number: int, *, seq: int = 1, percent: int | None = None) -> Event:
    """Returns an event of a job that began before those that pages show."""
    state = State(
        status="running",
        attempt=1,
        percent=percent,
        created_at=0.0,
        started_at=number * 1e-9,
        updated_at=trio.current_time(),
    )
    return Event(job(user, number), Position(1, seq), state)


async def open_pages(harness: Harness, users: int, jobs: int) -> list[HarnessClient]:
    """Opens one page per user. Each shows 50 of the user's jobs; there are `jobs` jobs in all."""
    clients = []
    for user in range(users):
        client = await harness.connect(address=f"192.0.2.{user}")
        await client.source.send(type="watch_set", prefix=f"user:{user}:", limit=SHOWN)
        clients.append(client)
    await messages_sent()
    harness.node.sets.deliver(
        old_event(user, number) for user in range(users) for number in range(jobs // users - SHOWN)
    )
    for user in range(users):
        for number in range(jobs // users - SHOWN, jobs // users):
            await harness.publish(job(user, number), percent=1)
    await messages_sent()
    return clients


async def costs(users: int, jobs: int) -> dict[str, Cost]:
    """Returns the cost of each kind of event of the first user."""
    cost_by_kind: dict[str, Cost] = {}
    async with trio.open_nursery() as nursery:
        harness = Harness(nursery, Limits(max_jobs=10 * jobs))
        await nursery.start(harness.node.run)
        clients = await open_pages(harness, users, jobs)
        last_number = jobs // users

        async def count(kind: str, publish: Callable[[int], Awaitable[Any]]) -> None:
            calls = 0

            def profile(frame: Any, event: str, arg: Any) -> None:
                nonlocal calls
                if event in ("call", "c_call"):  # of a built-in function: by its caller
                    calls += frame.f_globals["__name__"].startswith("gateway.")

            before = sum(len(client.sink.frames) for client in clients)
            for number in range(EVENTS):
                sys.setprofile(profile)
                try:
                    await publish(number)
                    await messages_sent()
                finally:
                    sys.setprofile(None)
            frames = sum(len(client.sink.frames) for client in clients) - before
            idle = cost_by_kind["nothing"].calls if cost_by_kind else 0
            cost_by_kind[kind] = Cost(calls / EVENTS - idle, frames / EVENTS)

        def tell(first: int, **fields: Any) -> Callable[[int], Awaitable[Any]]:
            return lambda number: harness.publish(job(0, first + number), **fields)

        async def tell_hidden(number: int) -> None:
            events = [old_event(0, number, seq=2, percent=2)]
            harness.node.hub.deliver(events)
            harness.node.sets.deliver(events)

        async def nothing(number: int) -> None:
            await trio.lowlevel.checkpoint()

        first_shown = last_number - SHOWN
        await count("nothing", nothing)
        await count("progress of a job that is shown", tell(first_shown, percent=2))
        await count("progress of a job that is not shown", tell_hidden)
        await count("a job ends that is shown", tell(first_shown, status="succeeded"))
        await count("a job begins", tell(last_number, percent=1))
        nursery.cancel_scope.cancel()
    return cost_by_kind


async def test_an_event_costs_what_is_shown_of_it(autojump_clock: MockClock) -> None:
    small, large = await costs(10, 1_000), await costs(100, 100_000)
    for kind, cost in large.items():
        print(f"{kind}: {cost.calls:.0f} calls, {cost.frames:g} frames")  # noqa: T201 - the measure
        assert cost.frames == small[kind].frames
        # A lookup in each set, or for each client, would be 90 more.
        assert cost.calls == pytest.approx(small[kind].calls, abs=5), kind
    assert large["progress of a job that is not shown"].frames == 0
    assert large["progress of a job that is shown"].frames == 1
