"""Phases: how the counts of one phase become the percentage of the whole job.

Pure: no lock, no clock. A *segment* is a section of the bar with its own counts. The whole job is
the first segment; a phase with a `share` or a `total` takes its segment from the unused rest of the
segment around it. A phase with neither is only a name, and continues the counts of the segment
around it. Segments never overlap, and their progress never falls, so the percentage of the whole
cannot fall.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from .child_counts import ChildCounts

__all__ = ["LoopCount", "Phase", "PhaseRecord", "Segment"]

J = TypeVar("J")
Number = int | float


class LoopCount:
    """The count of one loop. Only that loop writes it, so it needs no lock."""

    __slots__ = ("n",)

    def __init__(self) -> None:
        self.n = 0


class Segment:
    """A section of the bar (from `low` to `high`, between 0 and 1) and the counts that fill it."""

    __slots__ = (
        "child_counts",
        "count_at_fork",
        "count_without_loops",
        "fraction",
        "high",
        "low",
        "outer",
        "running_loops",
        "total",
        "unit",
    )

    def __init__(self, *, outer: Segment | None = None, share: float | None = None) -> None:
        """Makes a segment of the whole bar, or of `share` of the segment `outer` (None: its unused
        rest)."""
        self.outer = outer
        self.count_without_loops: Number | None = None
        """The count, without the counts of the running loops; None if nothing was counted."""
        self.running_loops: list[LoopCount] = []
        self.count_at_fork: Number = 0
        """In a forked child: the count at the fork, which the parent reports."""
        self.child_counts: ChildCounts | None = None
        """The counts of this process's forked children in this segment."""
        self.total: Number | None = None
        self.unit: str | None = None
        self.fraction: float | None = None if outer is None else 0.0
        """The fraction of this segment that is done; None if it is unknown."""
        self.low, self.high = 0.0, 1.0
        if outer is not None:
            self.low = outer.position() or outer.low
            self.high = outer.high
            if share is not None:
                self.high = min(self.low + share * (outer.high - outer.low), outer.high)

    @property
    def done(self) -> Number | None:
        """The count, with those of the running loops; None if nothing was counted."""
        if not self.running_loops:
            return self.count_without_loops
        loop_count = self._running_loop_count()
        if self.count_without_loops is None:
            return loop_count or None
        return self.count_without_loops + loop_count

    def set_done(self, done: Number | None) -> None:
        """Sets the count; running loops continue from there."""
        self.count_without_loops = (
            done if done is None or not self.running_loops else done - self._running_loop_count()
        )

    def end_loop(self, loop: LoopCount) -> None:
        """Adds the count of a loop that has ended."""
        if loop in self.running_loops:
            self.running_loops.remove(loop)
            if loop.n:
                self.count_without_loops = (self.count_without_loops or 0) + loop.n

    def record_fraction(self, fraction: float) -> None:
        """Records that `fraction` (0 to 1) of this segment is done. It never falls."""
        fraction = min(max(fraction, 0.0), 1.0)
        if self.fraction is None or fraction > self.fraction:
            self.fraction = fraction

    def position(self) -> float | None:
        """Returns the position of this segment's progress on the whole bar; None if it is
        unknown."""
        fraction = self.fraction
        if self.total:
            counted = min((self.done or 0) / self.total, 1.0)
            fraction = counted if fraction is None else max(fraction, counted)
        return None if fraction is None else self.low + fraction * (self.high - self.low)

    def end(self) -> None:
        """Counts this segment as done in the one around it."""
        outer = self.outer
        if outer is not None and outer.high > outer.low:
            outer.record_fraction((self.high - outer.low) / (outer.high - outer.low))

    def overall_position(self) -> float | None:
        """Returns the position of the job: the maximum of the positions of this segment and those
        around it; None if it is unknown."""
        positions = []
        segment: Segment | None = self
        while segment is not None:
            position = segment.position()
            if position is not None:
                positions.append(position)
            segment = segment.outer
        return max(positions) if positions else None

    @property
    def percent_from_counts(self) -> bool:
        """Whether `done` of `total` alone determines the percentage of the job."""
        return self.low == 0.0 and self.high == 1.0 and not self.fraction

    def _running_loop_count(self) -> int:
        return sum(loop.n for loop in self.running_loops)


class PhaseRecord:
    """The job's record of one phase: its name, its segment, and the phase around it.

    The phase with `outer` None is the job itself. A phase that is `in_block` is ended by that
    `with` block. Any other one is replaced by the next phase.
    """

    __slots__ = ("in_block", "name", "outer", "segment")

    def __init__(
        self, name: str | None, segment: Segment, *, outer: PhaseRecord | None = None
    ) -> None:
        self.name = name
        self.segment = segment
        self.outer = outer
        self.in_block = outer is None

    def end(self) -> PhaseRecord:
        """Ends this phase. Returns the one around it, or itself if there is none."""
        if self.outer is None:
            return self
        if self.segment is not self.outer.segment:
            self.segment.end()
        return self.outer

    def is_inside(self, other: PhaseRecord) -> bool:
        """Returns whether this is `other`, or inside it."""
        record: PhaseRecord | None = self
        while record is not None and record is not other:
            record = record.outer
        return record is other


class Phase(Generic[J]):
    """The result of `Job.phase`. The phase has begun; a `with` block ends it.

    If the block ends without an exception, the phase's whole share is done, and the job returns to
    the phase around it. If the block ends with an exception, the job stays in the phase, so that
    its last state shows where it stopped.
    """

    __slots__ = ("_end_phase", "_job", "_record")

    def __init__(
        self, job: J, record: PhaseRecord, *, end_phase: Callable[[PhaseRecord], None]
    ) -> None:
        self._job = job
        self._record = record
        self._end_phase = end_phase

    def __enter__(self) -> J:
        self._record.in_block = True
        return self._job

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._record.in_block = False
        if error is None:
            self._end_phase(self._record)
