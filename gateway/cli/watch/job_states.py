"""The states of the watched jobs and sets. Pure.

A frame must continue the known position, or be a snapshot (the client's rule in docs/protocol.md).
"""

from __future__ import annotations

from collections.abc import Iterable

from ...model.state import State
from .frames import JobSet, Progress

__all__ = ["JobStates"]


class JobStates:
    """The position and the state of each watched job: watched by name, or as a member of a set."""

    def __init__(self, jobs: Iterable[str], *, prefixes: Iterable[str] = ()) -> None:
        self.named = tuple(jobs)
        self.sets: dict[str, JobSet | None] = dict.fromkeys(prefixes)
        """The last frame of each set; None: none was received yet."""
        self.states: dict[str, State | None] = {}
        """The last received states. A job is missing if no state was received yet; None means that
        the gateway does not know the job."""
        self.violations = 0
        self._positions: dict[str, tuple[int | None, int]] = {}

    def apply(self, frame: Progress) -> bool:
        """Applies a frame. Returns False if it does not continue the known position: then the
        position is dropped, and the client must subscribe to the job again."""
        if frame.job not in self.named and not frame.job.startswith(tuple(self.sets)):
            return True  # not watched, so it is no violation
        position = self._positions.get(frame.job)
        continues_position = (
            position is not None
            and position[0] is not None
            and position == (frame.epoch, frame.prev)
            and frame.seq > position[1]
        )
        if frame.snapshot or continues_position:
            self._positions[frame.job] = frame.epoch, frame.seq
            self.states[frame.job] = frame.state
            return True
        self.violations += 1
        self._positions.pop(frame.job, None)
        return False

    def apply_set(self, frame: JobSet) -> None:
        """Applies a set. Jobs that have ended and are in no set any more are dropped."""
        self.sets[frame.prefix] = frame
        jobs = set(self.jobs)
        for job in [job for job in self.states if job not in jobs]:
            state = self.states[job]
            if state is None or state.final:
                del self.states[job]
                self._positions.pop(job, None)

    @property
    def jobs(self) -> list[str]:
        """The jobs watched by name, then those of each set, in its order."""
        job_sets = [job_set for job_set in self.sets.values() if job_set is not None]
        jobs_in_sets = [job for job_set in job_sets for job in job_set.jobs]
        return list(dict.fromkeys((*self.named, *jobs_in_sets)))

    def positions(self) -> dict[str, tuple[int | None, int]]:
        """Returns the positions for `hello`, from which the gateway continues."""
        return {job: self._positions[job] for job in self.jobs if job in self._positions}

    @property
    def finished(self) -> bool:
        """Whether all jobs have ended. A set has no end: another job may begin."""
        states = [self.states.get(job) for job in self.named]
        return not self.sets and all(state is not None and state.final for state in states)

    @property
    def succeeded(self) -> bool:
        """Whether all jobs have succeeded."""
        states = [self.states.get(job) for job in self.named]
        return all(state is not None and state.status == "succeeded" for state in states)
