from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from gateway.cli.serve.gc_tuning import INTERVAL, MAX_BLOCKS, Collector, configure_gc


class Circle:
    """A reference cycle, which only the garbage collector frees."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def _as_it_was() -> Iterator[None]:
    threshold = gc.get_threshold()
    gc.disable()
    yield
    gc.unfreeze()
    gc.set_threshold(*threshold)
    gc.enable()


@pytest.mark.usefixtures("_as_it_was")
async def test_cycles_of_young_objects_are_collected_in_time(autojump_clock: MockClock) -> None:
    """Python's threshold counts allocations less deallocations, which may be few."""
    old = weakref.ref(Circle())
    configure_gc()
    assert old() is None, "what is frozen is not garbage"
    live_cycle = Circle()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(Collector().run, young_per_old=100, old_per_frozen=3))
        for _ in range(3):
            young = weakref.ref(Circle())
            assert young() is not None
            await trio.sleep(1.5 * INTERVAL)
            assert young() is None
        grown_old = weakref.ref(live_cycle)
        del live_cycle
        await trio.sleep(10 * INTERVAL)
        assert grown_old() is not None, "old objects are looked at too often"
        await trio.sleep(100 * INTERVAL)
        assert grown_old() is None
        nursery.cancel_scope.cancel()


@pytest.mark.usefixtures("_as_it_was")
async def test_frozen_objects_are_collected_only_while_they_are_few(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure_gc()
    kept = [Circle(), Circle()]
    blocks = 0
    monkeypatch.setattr("sys.getallocatedblocks", lambda: blocks)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(Collector().run, young_per_old=10, old_per_frozen=3))
        await trio.sleep(11 * INTERVAL)  # frozen
        frozen = weakref.ref(kept.pop())
        blocks = 10 * MAX_BLOCKS
        await trio.sleep(30 * INTERVAL)
        assert frozen() is not None, "a long pause"
        young = weakref.ref(Circle())
        await trio.sleep(2 * INTERVAL)
        assert young() is None
        blocks = 0
        await trio.sleep(30 * INTERVAL)
        assert frozen() is None
        nursery.cancel_scope.cancel()
