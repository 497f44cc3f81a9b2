"""Text output: a line per change for people, or frames as JSON lines for programs."""

from __future__ import annotations

import time

from ..terminal import echo
from .format import View, describe
from .job_states import JobStates

__all__ = ["FrameLines", "Lines"]

MAX_REMEMBERED = 10_000
"""Jobs whose last printed line is remembered. It is limited, because a set may have many new
jobs."""


class Lines:
    """Prints a line whenever a job's description or its whole percentage changes."""

    def __init__(self, known: JobStates) -> None:
        self._known = known
        self._last: dict[str, tuple[str, ...]] = {}

    def connected(self, node: str) -> None:
        """Prints nothing, because a connection is expected."""

    def disconnected(self, why: str, seconds: float) -> None:
        echo(f"gateway: {why}; retrying in {seconds:.1f} s", err=True)

    def progress(self, text: str, job: str) -> None:
        view = describe(self._known.states[job], now=time.time())
        phase = view.text if view.percent is None else ""
        changed = view.word, view.attempt, view.figure, phase
        if self._last.get(job) != changed:
            self._last[job] = changed
            echo(f"{time.strftime('%H:%M:%S')} {_line(job, view)}")
            if len(self._last) > MAX_REMEMBERED:
                del self._last[next(iter(self._last))]

    def job_set(self, text: str) -> None:
        """Prints nothing, because the jobs of the set are printed."""

    def gap(self, text: str, job: str) -> None:
        echo(f"gateway: some events of {job} were missed", err=True)

    def warning(self, what: str) -> None:
        echo(f"gateway: {what}", err=True)


class FrameLines:
    """Prints each frame as it was received, one a line."""

    def connected(self, node: str) -> None:
        """Prints nothing, because this is not a frame of a job."""

    def disconnected(self, why: str, seconds: float) -> None:
        echo(f"gateway: {why}; retrying in {seconds:.1f} s", err=True)

    def progress(self, text: str, job: str) -> None:
        echo(text, json=True)

    def job_set(self, text: str) -> None:
        echo(text, json=True)

    def gap(self, text: str, job: str) -> None:
        echo(text, json=True)

    def warning(self, what: str) -> None:
        echo(f"gateway: {what}", err=True)


def _line(job: str, view: View) -> str:
    parts = [job, view.word, view.figure, view.attempt and f"({view.attempt})", view.text]
    line = " ".join(part for part in parts if part)
    return f"{line} ({view.time})" if view.time else line
