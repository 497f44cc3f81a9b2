"""The rate limit of a client: a burst, and then a sustained rate."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from gateway.transports.rate_limit import TokenBucket


async def test_a_burst_is_allowed_and_then_the_rate_applies(autojump_clock: MockClock) -> None:
    token_bucket = TokenBucket(10, 100)
    start = trio.current_time()
    for _ in range(300):
        await token_bucket.wait()
        token_bucket.consume(1, size=0)
    assert trio.current_time() - start == pytest.approx(20, abs=0.2)


async def test_long_messages_use_more_tokens(autojump_clock: MockClock) -> None:
    token_bucket = TokenBucket(10, 1)
    start = trio.current_time()
    token_bucket.consume(1, size=10 * 1024)
    await token_bucket.wait()
    assert trio.current_time() - start == pytest.approx(1, abs=0.01)


async def test_unused_tokens_are_limited_to_the_burst(autojump_clock: MockClock) -> None:
    token_bucket = TokenBucket(10, 20)
    await trio.sleep(1_000)
    start = trio.current_time()
    for _ in range(40):
        await token_bucket.wait()
        token_bucket.consume(1, size=0)
    assert trio.current_time() - start == pytest.approx(2, abs=0.2)
