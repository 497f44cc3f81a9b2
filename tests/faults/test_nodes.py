"""Faults of a node. The clients of the other one do not notice."""

from __future__ import annotations

import trio

from .story import story


async def test_killed_and_its_clients_go_to_the_other_one() -> None:
    """With their positions, so that each is continued where it was."""
    async with story() as it:
        async with it.fault():
            it.nodes[1].kill()
            it.end("meanwhile")
        await it.goes_on()


async def test_stopped_for_twenty_seconds_and_continued() -> None:
    """Half of its clients wait for it, the others go to the other one."""
    async with story() as it:
        node = it.nodes[1]
        async with it.fault():
            stopped_at = trio.current_time()
            node.stop()
            it.end("meanwhile")
            await it.goes_on(it.watching(it.nodes[0]))
            await it.goes_on(it.watching(node, alert=True))
            await trio.sleep_until(stopped_at + 20)
            node.go_on()
        await it.goes_on()


async def test_what_happened_while_it_was_stopped_is_gone_from_the_feed() -> None:
    async with story() as it:
        node = it.nodes[1]
        async with it.fault():
            node.stop()
            await it.has_ended("meanwhile", watchers=it.watching(it.nodes[0]))
            await it.redis.trim_feed()
            node.go_on()
        await it.has_ended("meanwhile")
        await it.goes_on()


async def test_the_last_events_of_all_are_gone_from_the_feed() -> None:
    """Nothing comes after them that would show that something is missing."""
    async with story() as it:
        node = it.nodes[1]
        async with it.fault():
            node.stop()
            await it.has_ended(*it.workers, watchers=it.watching(it.nodes[0]))
            await it.redis.trim_feed()
            node.go_on()


async def test_its_clients_go_to_one_that_knows_less_than_they_do() -> None:
    """It was stopped for a moment, and Redis cannot tell it any more what it has missed."""
    async with story() as it:
        behind, ahead = it.nodes
        async with it.fault():
            behind.stop()
            await it.goes_on(it.watching(ahead), steps=10)
            it.redis.kill()
            ahead.kill()
            behind.go_on()
            await it.moved(it.watching(ahead), behind)
            await it.redis.start()
        await it.goes_on()
