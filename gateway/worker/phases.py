"""Phases: how the counts of one part of a job become the percentage of the whole.

Pure: no lock, no clock. A *segment* is a part of the bar with its own counts. The whole job is the
first segment; a phase with a `share` or a `total` takes its segment from the unused rest of the
segment around it. A phase with neither is only a name, and continues the counts of the segment
around it. Segments never overlap, and their progress never falls, so the percentage of the whole
cannot fall.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from .parts import ChildCounts

__all__ = ["LoopCount", "Phase", "Segment", "Stage"]

J = TypeVar("J")
Number = int | float


class LoopCount:
    """The count of one loop. Only that loop writes it, so it needs no lock."""

    __slots__ = ("n",)

    def __init__(self) -> None:
        self.n = 0


class Segment:
    """A part of the bar (from `low` to `high`, between 0 and 1) and the counts that fill it."""

    __slots__ = (
        "base",
        "child_counts",
        "count",
        "high",
        "loops",
        "low",
        "outer",
        "reached",
        "total",
        "unit",
    )

    def __init__(self, *, outer: Segment | None = None, share: float | None = None) -> None:
        """The whole bar, or `share` of the segment `outer` (None: the rest of it)."""
        self.outer = outer
        self.count: Number | None = None
        """The count, without those of the running loops."""
        self.loops: list[LoopCount] = []
        self.base: Number = 0
        """The count when this process was forked, which its parent reports."""
        self.child_counts: ChildCounts | None = None
        """The counts of this process's forked children in this segment."""
        self.total: Number | None = None
        self.unit: str | None = None
        self.reached: float | None = None if outer is None else 0.0
        """The fraction of this segment that is done; None if it is unknown."""
        self.low, self.high = 0.0, 1.0
        if outer is not None:
            self.low = outer.position() or outer.low
            self.high = outer.high
            if share is not None:
                self.high = min(self.low + share * (outer.high - outer.low), outer.high)

    @property
    def done(self) -> Number | None:
        """The count; None if nothing was counted."""
        if not self.loops:
            return self.count
        looped = self._looped()
        if self.count is None:
            return looped or None
        return self.count + looped

    def set_done(self, done: Number | None) -> None:
        """Set the count; running loops continue from there."""
        self.count = done if done is None or not self.loops else done - self._looped()

    def end_loop(self, loop: LoopCount) -> None:
        """Add the count of a loop that has ended."""
        if loop in self.loops:
            self.loops.remove(loop)
            if loop.n:
                self.count = (self.count or 0) + loop.n

    def reach(self, part: float) -> None:
        """Record that the fraction `part` (0 to 1) of this segment is done. It never falls."""
        part = min(max(part, 0.0), 1.0)
        if self.reached is None or part > self.reached:
            self.reached = part

    def position(self) -> float | None:
        """The position of this segment's progress on the whole bar; None if it is unknown."""
        part = self.reached
        if self.total:
            counted = min((self.done or 0) / self.total, 1.0)
            part = counted if part is None else max(part, counted)
        return None if part is None else self.low + part * (self.high - self.low)

    def close(self) -> None:
        """Count this segment as done in the one around it."""
        outer = self.outer
        if outer is not None and outer.high > outer.low:
            outer.reach((self.high - outer.low) / (outer.high - outer.low))

    def whole(self) -> float | None:
        """The position of the job: the maximum of this segment's and those around it."""
        positions = []
        segment: Segment | None = self
        while segment is not None:
            position = segment.position()
            if position is not None:
                positions.append(position)
            segment = segment.outer
        return max(positions) if positions else None

    @property
    def by_count_alone(self) -> bool:
        """Whether `done` of `total` alone determines the percentage of the job."""
        return self.low == 0.0 and self.high == 1.0 and not self.reached

    def _looped(self) -> int:
        return sum(loop.n for loop in self.loops)


class Stage:
    """The job's record of one phase: its name, its segment, and the stage around it.

    While its `with` block is open it is `held`, and only that block ends it. Otherwise the next
    phase replaces it.
    """

    __slots__ = ("held", "name", "outer", "segment")

    def __init__(self, name: str | None, segment: Segment, *, outer: Stage | None = None) -> None:
        self.name = name
        self.segment = segment
        self.outer = outer
        self.held = outer is None

    def close(self) -> Stage:
        """End this stage, and return to the stage around it. The first stage has none."""
        if self.outer is None:
            return self
        if self.segment is not self.outer.segment:
            self.segment.close()
        return self.outer

    def inside(self, stage: Stage) -> bool:
        """Whether this is `stage`, or inside it."""
        here: Stage | None = self
        while here is not None and here is not stage:
            here = here.outer
        return here is stage


class Phase(Generic[J]):
    """The result of `Job.phase`. The phase has begun; a `with` block ends it.

    If the block is left normally, the phase's whole share is done, and the job returns to the phase
    around it. If it is left by an exception, the job stays in the phase, so that its last
    state shows where it stopped.
    """

    __slots__ = ("_job", "_leave", "_stage")

    def __init__(self, job: J, stage: Stage, *, leave: Callable[[Stage], None]) -> None:
        self._job = job
        self._stage = stage
        self._leave = leave

    def __enter__(self) -> J:
        self._stage.held = True
        return self._job

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._stage.held = False
        if error is None:
            self._leave(self._stage)
