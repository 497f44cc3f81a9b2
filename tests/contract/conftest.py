"""The fixture of the contract tests: each test runs once with every broker."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from .brokers import BROKERS, Bench


@pytest.fixture(params=sorted(BROKERS))
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    async with BROKERS[request.param]() as bench:
        yield bench
