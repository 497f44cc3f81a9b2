"""What an update of a child costs Redis: at most twice as many commands as one of a plain job,
however many children the group has. Redis itself counts the commands, those of scripts too."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gateway import Limits
from gateway.brokers.redis.broker import RedisBroker
from gateway.model.state import Update
from tests.brokers.redis.server import Server, session_server

STEPS = {
    "begin": Update(percent=0),
    "step": Update(percent=1),
    "small step": Update(percent=1.01),
    "large step": Update(percent=60),
    "renewal": Update(),
    "end": Update(status="succeeded"),
}


@pytest.fixture
def server() -> Server:
    return session_server()


@pytest.fixture
async def broker(server: Server) -> AsyncIterator[RedisBroker]:
    broker = RedisBroker(server.url, Limits())
    yield broker
    broker.close()


async def commands(
    server: Server, broker: RedisBroker, job: str
) -> tuple[dict[str, int], list[int]]:
    """Returns how many commands each step of `job` makes, and the group's position after each."""
    counts, positions = {}, []
    for name, update in STEPS.items():
        _wait_for_the_next_millisecond(server)
        server.client.config_resetstat()
        assert (await broker.publish(job, update)).reason in (None, "unchanged")
        stats = server.client.info("commandstats")
        del stats["cmdstat_config|resetstat"]
        counts[name] = sum(used["calls"] for used in stats.values())
        group = (await broker.read(["g"])).get("g")
        positions.append(group.position.seq if group else 0)
    return counts, positions


def _wait_for_the_next_millisecond(server: Server) -> None:
    """Two updates in the same millisecond make fewer commands: the time is the same."""
    before = server.client.time()
    while (now := server.client.time())[0] == before[0] and now[1] // 1000 == before[1] // 1000:
        pass


async def test_a_childs_publish_costs_at_most_twice_a_plain_one(
    broker: RedisBroker, server: Server
) -> None:
    for job in ("plain", "g/first"):  # loads the script, and the group has begun
        await broker.publish(job, Update(percent=0))
    await broker.publish("g", Update(children=3))
    await broker.publish("g/first", Update(percent=3))
    plain, _ = await commands(server, broker, "another")
    child, positions = await commands(server, broker, "g/a")
    # Of three children, a step of 1 % is an event of the group; one of 0.01 % is not.
    assert positions == [3, 4, 4, 5, 5, 6]
    assert {name: count for name, count in child.items() if count > 2 * plain[name]} == {}
    assert child["renewal"] == plain["renewal"]
    for number in range(1_000):
        await broker.publish(f"g/{number}", Update(percent=0))
    many, _ = await commands(server, broker, "g/b")
    assert {name: count for name, count in many.items() if count > child[name]} == {}
