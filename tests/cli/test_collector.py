from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from gateway.cli.collector import EVERY, calm_down, collect


class Circle:
    """Nothing but the collector finds that it is not needed any more."""

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
async def test_circles_of_the_young_go_in_time(autojump_clock: MockClock) -> None:
    """However little is new on balance, which is all that Python goes by."""
    old = weakref.ref(Circle())
    calm_down()
    kept = Circle()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(collect, all_every=100))
        for _ in range(3):
            young = weakref.ref(Circle())
            assert young() is not None
            await trio.sleep(2.5 * EVERY)
            assert young() is None
        grown_old = weakref.ref(kept)
        del kept
        await trio.sleep(10 * EVERY)
        assert grown_old() is not None, "the old are looked at too often"
        await trio.sleep(100 * EVERY)
        assert grown_old() is None
        nursery.cancel_scope.cancel()
    assert old() is None, "what is kept for ever is not garbage"
