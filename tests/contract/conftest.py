"""The fixture of the contract tests: each test runs once with every broker."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from .brokers import BROKERS, BrokerUnderTest


@pytest.fixture(params=sorted(BROKERS))
async def tested(request: pytest.FixtureRequest) -> AsyncIterator[BrokerUnderTest]:
    async with BROKERS[request.param]() as tested:
        yield tested
