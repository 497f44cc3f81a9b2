"""A running node for tests of connections. A module can override the limits by its own fixture."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio

from gateway import Limits
from gateway.delivery.hub import Hub
from gateway.delivery.repairs import Repairs

from .harness import Harness


@pytest.fixture
async def harness(limits: Limits) -> AsyncIterator[Harness]:
    async with trio.open_nursery() as nursery:
        harness = Harness(nursery, limits)
        await nursery.start(harness.node.run)
        yield harness
        nursery.cancel_scope.cancel()


@pytest.fixture
def hub() -> Hub:
    return Hub(Limits(linger=30))


@pytest.fixture
def repairs(hub: Hub) -> Repairs:
    return Repairs(hub)
