"""What a client may say: frames are counted as a library would, and spending has its price."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from gateway import Limits
from gateway.transports.allowance import Allowance, FrameCounter
from tests.e2e.client import CLOSE, PING, TEXT, frame

frames = st.builds(
    frame,
    st.binary(max_size=200)
    | st.sampled_from([b"x" * 125, b"x" * 126, b"x" * 65_535, b"x" * 65_536]),
    st.sampled_from([TEXT, PING, CLOSE]),
    masked=st.booleans(),
)


@given(st.lists(frames, max_size=8), st.data())
def test_frames_are_counted_however_they_are_cut(sent: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(sent)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=20))
    counter, start, counted = FrameCounter(), 0, 0
    for end in [*sorted(cuts), len(stream)]:
        counted += counter.count(stream[start:end])
        start = end
    assert counted == len(sent)
    assert counter.closes == any(one[0] & 0x0F == CLOSE for one in sent)


@given(st.lists(st.binary(max_size=50), max_size=20))
def test_noise_is_counted_in_bounded_time_and_space(chunks: list[bytes]) -> None:
    counter = FrameCounter()
    for chunk in chunks:
        assert 0 <= counter.count(chunk) <= len(chunk) // 2 + 8
        assert len(counter._begun) < 14


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
