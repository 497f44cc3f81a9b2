"""What a client may say: a burst at once, and then so much a second."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from gateway import Limits
from gateway.transports.allowance import Allowance


async def test_a_burst_is_free_and_then_the_rate_counts(autojump_clock: MockClock) -> None:
    allowance = Allowance(Limits(commands_per_second=10, command_burst=100))
    start = trio.current_time()
    for _ in range(300):
        await allowance.wait()
        allowance.spend(1, size=0)
    assert trio.current_time() - start == pytest.approx(20, abs=0.2)


async def test_text_costs_too(autojump_clock: MockClock) -> None:
    allowance = Allowance(Limits(commands_per_second=10, command_burst=1))
    start = trio.current_time()
    allowance.spend(1, size=10 * 1024)
    await allowance.wait()
    assert trio.current_time() - start == pytest.approx(1, abs=0.01)


async def test_it_is_no_savings_account(autojump_clock: MockClock) -> None:
    allowance = Allowance(Limits(commands_per_second=10, command_burst=20))
    await trio.sleep(1_000)
    start = trio.current_time()
    for _ in range(40):
        await allowance.wait()
        allowance.spend(1, size=0)
    assert trio.current_time() - start == pytest.approx(2, abs=0.2)
