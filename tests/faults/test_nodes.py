"""Faults of a node, which do not affect the clients of the other one."""

from __future__ import annotations

import trio

from .scenario import run_scenario


async def test_a_node_is_killed() -> None:
    """Clients reconnect with their positions, so that each job continues there."""
    async with run_scenario() as scenario:
        async with scenario.fault():
            scenario.nodes[1].kill()
            scenario.end("meanwhile")
        await scenario.progress_continues()


async def test_a_node_is_stopped_for_twenty_seconds() -> None:
    """Half of the clients of the node wait for it, the others connect to the other node."""
    async with run_scenario() as scenario:
        node = scenario.nodes[1]
        async with scenario.fault():
            stopped_at = trio.current_time()
            node.stop()
            scenario.end("meanwhile")
            await scenario.progress_continues(scenario.watching(scenario.nodes[0]))
            await scenario.progress_continues(scenario.watching(node, sends_pings=True))
            await trio.sleep_until(stopped_at + 20)
            node.resume()
        await scenario.progress_continues()


async def test_the_feed_is_trimmed_while_a_node_is_stopped() -> None:
    async with run_scenario() as scenario:
        node = scenario.nodes[1]
        async with scenario.fault():
            node.stop()
            await scenario.wait_for_ends("meanwhile", watchers=scenario.watching(scenario.nodes[0]))
            await scenario.redis.trim_feed()
            node.resume()
        await scenario.wait_for_ends("meanwhile")
        await scenario.progress_continues()


async def test_the_last_events_are_trimmed_from_the_feed() -> None:
    """No later event shows that some are missing."""
    async with run_scenario() as scenario:
        node = scenario.nodes[1]
        async with scenario.fault():
            node.stop()
            await scenario.wait_for_ends(
                *scenario.workers, watchers=scenario.watching(scenario.nodes[0])
            )
            await scenario.redis.trim_feed()
            node.resume()


async def test_clients_move_to_a_node_that_is_behind() -> None:
    """The node was stopped for a moment, and Redis no longer has the events that it has missed."""
    async with run_scenario() as scenario:
        behind, client_may_be_ahead = scenario.nodes
        async with scenario.fault():
            behind.stop()
            await scenario.progress_continues(scenario.watching(client_may_be_ahead), steps=10)
            scenario.redis.kill()
            client_may_be_ahead.kill()
            behind.resume()
            await scenario.wait_for_move(scenario.watching(client_may_be_ahead), behind)
            await scenario.redis.start()
        await scenario.progress_continues()
