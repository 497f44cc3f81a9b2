"""A request and the job's end at the same time: there is exactly one end, and both nodes agree.

For each job there are three concurrent calls, over the brokers of two nodes: a cancel request, a
worker that does not know the request and succeeds, and a process of the same attempt that knows it
and is cancelled.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import AsyncIterator

import pytest
import trio

from gateway.brokers.base import PublishResult
from gateway.brokers.redis import broker
from gateway.brokers.redis.broker import RedisBroker
from gateway.model.state import UNSEEN, Request, RequestUpdate, Update
from gateway.model.statuses import FINAL
from tests.brokers.redis.server import session_server

RACES = int(os.environ.get("REQUEST_RACES", "100"))
AT_ONCE = 8


@pytest.fixture
async def nodes(
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[tuple[RedisBroker, RedisBroker]]:
    monkeypatch.setattr(broker, "CALL_TIMEOUT", 120.0)  # on a busy machine
    url = session_server().url
    brokers = RedisBroker(url), RedisBroker(url)
    yield brokers
    for redis_broker in brokers:
        redis_broker.close()


def cancel_request(number: int = 1, attempt: int | None = None) -> RequestUpdate:
    request = Request(id=f"ask-{number}", verb="cancel")
    return (
        RequestUpdate(request=request)
        if attempt is None
        else RequestUpdate(request=request, attempt=attempt)
    )


async def race(job: str, nodes: tuple[RedisBroker, RedisBroker]) -> tuple[str, str | None]:
    """Returns how the job ended, and why its request was rejected, if it was."""
    first_node, second_node = nodes
    await first_node.publish(job, Update(start=True, run="old", accepts=("cancel",)))
    await first_node.publish(job, Update(start=True, run="new", accepts=("cancel",)))
    results: dict[str, PublishResult] = {}

    async def publish(name: str, node: RedisBroker, update: Update) -> None:
        results[name] = await node.publish(job, update)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(publish, "ask", first_node, cancel_request())
        nursery.start_soon(publish, "old", second_node, cancel_request(2, attempt=1))
        nursery.start_soon(publish, "succeeded", second_node, Update(attempt=2, status="succeeded"))
        received = Update(attempt=2, status="cancelled", ack="ask-1")
        nursery.start_soon(publish, "cancelled", first_node, received)
    assert results["old"].reason == "stale_attempt"

    read = [(await node.read([job]))[job] for node in nodes]
    assert read[0] == read[1]
    end = read[0].state
    won = [name for name in ("succeeded", "cancelled") if results[name].applied]
    assert [end.status] == won
    assert {results[name].reason for name in ("succeeded", "cancelled")} == {None, "final"}
    assert results["ask"].reason in (None, "final")
    # An accepted request was accepted before the end, and stays in the state.
    assert (end.request is not None) == results["ask"].applied
    history = await first_node.history(job, after=UNSEEN)
    assert [event.state.status in FINAL for event in history].count(True) == 1
    assert history[-1] == read[0]
    return end.status, results["ask"].reason


async def test_a_request_and_an_end_at_the_same_time_are_consistent(
    nodes: tuple[RedisBroker, RedisBroker],
) -> None:
    outcomes: Counter[tuple[str, str | None]] = Counter()

    async def run(number: int) -> None:
        outcomes[await race(f"race:{number}", nodes)] += 1

    for first_number in range(0, RACES, AT_ONCE):
        async with trio.open_nursery() as nursery:
            for number in range(first_number, min(first_number + AT_ONCE, RACES)):
                nursery.start_soon(run, number)
    assert outcomes.total() == RACES
    if RACES > 1_000:  # with fewer jobs an outcome might not occur
        assert len(outcomes) == 4, outcomes
