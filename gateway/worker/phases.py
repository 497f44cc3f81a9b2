"""Phases: how the counts of one part of a job become the percentage of the whole.

Pure: no lock, no clock. A *span* is a stretch of the bar with counts of its own; the whole
job is the first one, and a phase with a `share` or a `total` cuts its span from what is
left of the one around it. A phase with neither is only a name and counts on in the span
around it. Spans never overlap and what was reached stays reached, so the percentage of
the whole cannot fall.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .job import Job

__all__ = ["Phase", "Span", "Stage"]


class Span:
    """A stretch of the bar (`low` to `high`, parts of 1) and the counts that fill it."""

    __slots__ = ("done", "high", "low", "outer", "reached", "total", "unit")

    def __init__(self, *, outer: Span | None = None, share: float | None = None) -> None:
        """The whole bar, or `share` of the span `outer` (None: all that is left of it)."""
        self.outer = outer
        self.done: int | float | None = None
        self.total: int | float | None = None
        self.unit: str | None = None
        self.reached: float | None = None if outer is None else 0.0
        """The part of this span that is known to be done; None if nothing is known."""
        self.low, self.high = 0.0, 1.0
        if outer is not None:
            self.low = outer.position() or outer.low
            self.high = outer.high
            if share is not None:
                self.high = min(self.low + share * (outer.high - outer.low), outer.high)

    def reach(self, part: float) -> None:
        """Note that `part` (0 to 1) of this span is done; it never falls."""
        part = min(max(part, 0.0), 1.0)
        if self.reached is None or part > self.reached:
            self.reached = part

    def position(self) -> float | None:
        """Where on the whole bar this span stands; None if nothing is known."""
        part = self.reached
        if self.total:
            counted = min((self.done or 0) / self.total, 1.0)
            part = counted if part is None else max(part, counted)
        return None if part is None else self.low + part * (self.high - self.low)

    def close(self) -> None:
        """Count this span as done in the one around it."""
        outer = self.outer
        if outer is not None and outer.high > outer.low:
            outer.reach((self.high - outer.low) / (outer.high - outer.low))

    def whole(self) -> float | None:
        """The position of the job: the furthest of this span and those around it."""
        positions = []
        span: Span | None = self
        while span is not None:
            position = span.position()
            if position is not None:
                positions.append(position)
            span = span.outer
        return max(positions) if positions else None


class Stage:
    """One phase as the job keeps it: its name, its span, and the stage around it.

    `held` while a `with` block is open: only that block ends it. Otherwise the next
    phase takes its place.
    """

    __slots__ = ("held", "name", "outer", "span")

    def __init__(self, name: str | None, span: Span, *, outer: Stage | None = None) -> None:
        self.name = name
        self.span = span
        self.outer = outer
        self.held = outer is None

    def close(self) -> Stage:
        """End this stage; the one around it is what the job is in again. The first has none."""
        if self.outer is None:
            return self
        if self.span is not self.outer.span:
            self.span.close()
        return self.outer

    def inside(self, stage: Stage) -> bool:
        """Whether this is `stage`, or a part of it."""
        here: Stage | None = self
        while here is not None and here is not stage:
            here = here.outer
        return here is stage


class Phase:
    """What `Job.phase` returns: the phase has begun; a `with` block says when it ends.

    Left normally, the block gives the phase its whole share, and the job is back in what
    was around it. Left by an exception, the job stays in the phase, so that its last
    state shows where it stopped.
    """

    __slots__ = ("_job", "_leave", "_stage")

    def __init__(self, job: Job, stage: Stage, *, leave: Callable[[Stage], None]) -> None:
        self._job = job
        self._stage = stage
        self._leave = leave

    def __enter__(self) -> Job:
        self._stage.held = True
        return self._job

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._stage.held = False
        if error is None:
            self._leave(self._stage)
