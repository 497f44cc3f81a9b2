"""What a watcher knows of its jobs, by the client's rule of docs/protocol.md. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from ..job import State
from .frames import Progress

__all__ = ["Known"]


class Known:
    """The position and the state of each job that is watched."""

    def __init__(self, jobs: Iterable[str]) -> None:
        self.jobs = tuple(jobs)
        self.states: dict[str, State | None] = {}
        """What was last heard. A job that is not in it: nothing yet; None: never seen."""
        self.violations = 0
        self._positions: dict[str, tuple[int | None, int]] = {}

    def apply(self, frame: Progress) -> bool:
        """Take a frame in. False if it does not continue what is known: then the position
        is forgotten, and the job must be subscribed to anew."""
        if frame.job not in self.jobs:
            return True  # somebody else's; nothing of ours is wrong
        position = self._positions.get(frame.job)
        follows = position is not None and position == (frame.epoch, frame.prev)
        if frame.snapshot or follows:
            self._positions[frame.job] = frame.epoch, frame.seq
            self.states[frame.job] = frame.state
            return True
        self.violations += 1
        self._positions.pop(frame.job, None)
        return False

    def positions(self) -> dict[str, tuple[int | None, int]]:
        """For `hello`: what need not be told again."""
        return dict(self._positions)

    @property
    def finished(self) -> bool:
        """Whether all jobs have ended."""
        states = [self.states.get(job) for job in self.jobs]
        return all(state is not None and state.final for state in states)

    @property
    def succeeded(self) -> bool:
        """Whether all jobs have ended well."""
        states = [self.states.get(job) for job in self.jobs]
        return all(state is not None and state.status == "succeeded" for state in states)
