"""A running node for tests of connections. A module can override the limits by its own fixture."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio

from gateway import Limits

from .harness import Harness


@pytest.fixture
def limits() -> Limits:
    return Limits()


@pytest.fixture
async def harness(limits: Limits) -> AsyncIterator[Harness]:
    async with trio.open_nursery() as nursery:
        harness = Harness(nursery, limits)
        await nursery.start(harness.node.run)
        yield harness
        nursery.cancel_scope.cancel()
