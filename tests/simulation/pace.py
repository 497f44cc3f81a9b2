"""Checks that every stream is up to date within seconds, while there is no fault."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import trio
from attrs import define, field

from .checks import Violated
from .clients import PACE
from .sets import SetWatcher

if TYPE_CHECKING:
    from .world import World

__all__ = ["Pace"]

SAMPLED = 0.25
"""Seconds between two checks of the streams."""


@define(eq=False)
class Pace:
    """Checks all streams of a run at intervals."""

    world: World
    past: deque[dict[str, tuple[int, int]]] = field(
        factory=lambda: deque(maxlen=round(PACE / SAMPLED))
    )
    """The positions of the jobs in the broker during the last seconds."""

    async def run(self) -> None:
        """Checks, while there is no fault, that every stream has received what was written `PACE`
        seconds ago."""
        while True:
            await trio.sleep(SAMPLED)
            self.world.check_commands()
            at = trio.current_time() - PACE
            known = len(self.past) == self.past.maxlen
            if known and at > self.world.faults.recovered_at and not self.world.faults.striking:
                self._check_pace(self.past[0], at)
            self.past.append(self._positions())

    def _positions(self) -> dict[str, tuple[int, int]]:
        """Returns the positions of the current generation."""
        positions: dict[str, tuple[int, int]] = {}
        values = self.world.server.redis.store.values
        generation = int(values.get(b"progress:counters", {}).get(b"generation", 0))
        for job in self.world.jobs:
            record = values.get(f"progress:last:{job}".encode())
            if record and int(record[b"epoch"]) >= generation and not self.world.server.dead:
                positions[job] = int(record[b"epoch"]), int(record[b"seq"])
        return positions

    def _check_pace(self, positions: dict[str, tuple[int, int]], at: float) -> None:
        values = self.world.server.redis.store.values
        steady = {
            job: values[f"progress:last:{job}".encode()][b"status"].decode()
            for job, position in self._positions().items()
            if position == positions.get(job) and job not in self.world.checks.lost
        }
        for watcher in self.world.watchers:
            if watcher.streaming_since is None or watcher.streaming_since > at:
                continue
            if isinstance(watcher, SetWatcher):
                watcher.check_pace(steady)
            for job in watcher.streamed_jobs:
                shown_position, _ = watcher.observer.last.get(job, ((0, 0), None))
                if job not in self.world.checks.lost and shown_position < positions.get(
                    job, shown_position
                ):
                    raise Violated(
                        f"the end: {watcher.name} has {job} at {shown_position}, and it stood at "
                        f"{positions[job]} {PACE:g} s ago"
                    )
