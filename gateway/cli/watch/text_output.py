"""Text output: a line of text for each change, or frames as JSON lines for programs."""

from __future__ import annotations

import time

from ..terminal import echo
from .format import View, describe
from .job_states import JobStates

__all__ = ["ChangeLines", "FrameLines"]

MAX_REMEMBERED_LINES = 10_000
"""The number of jobs whose last line is remembered, because a set may have many new jobs."""


class ChangeLines:
    """Prints a line whenever a job's description or its whole percentage changes."""

    def __init__(self, job_states: JobStates) -> None:
        self._job_states = job_states
        self._last_lines: dict[str, tuple[str, ...]] = {}

    def on_connected(self, node: str) -> None:
        """Prints nothing, because a connection is expected."""

    def on_disconnected(self, reason: str, seconds: float) -> None:
        echo(f"gateway: {reason}; retrying in {seconds:.1f} s", err=True)

    def on_progress(self, frame: str, job: str) -> None:
        view = describe(self._job_states.states[job], now=time.time())
        phase = view.text if view.percent is None else ""
        changed = view.word, view.attempt_text, view.percent_text, phase
        if self._last_lines.get(job) != changed:
            self._last_lines[job] = changed
            echo(f"{time.strftime('%H:%M:%S')} {_line(job, view)}")
            if len(self._last_lines) > MAX_REMEMBERED_LINES:
                del self._last_lines[next(iter(self._last_lines))]

    def on_job_set(self, frame: str) -> None:
        """Prints nothing, because the jobs of the set are printed."""

    def on_gap(self, frame: str, job: str) -> None:
        echo(f"gateway: some events of {job} were missed", err=True)

    def on_warning(self, text: str) -> None:
        echo(f"gateway: {text}", err=True)


class FrameLines:
    """Prints each frame as it was received, one per line."""

    def on_connected(self, node: str) -> None:
        """Prints nothing, because this is not a frame of a job."""

    def on_disconnected(self, reason: str, seconds: float) -> None:
        echo(f"gateway: {reason}; retrying in {seconds:.1f} s", err=True)

    def on_progress(self, frame: str, job: str) -> None:
        echo(frame, json=True)

    def on_job_set(self, frame: str) -> None:
        echo(frame, json=True)

    def on_gap(self, frame: str, job: str) -> None:
        echo(frame, json=True)

    def on_warning(self, text: str) -> None:
        echo(f"gateway: {text}", err=True)


def _line(job: str, view: View) -> str:
    parts = [
        job,
        view.word,
        view.percent_text,
        view.attempt_text and f"({view.attempt_text})",
        view.text,
    ]
    line = " ".join(part for part in parts if part)
    return f"{line} ({view.time})" if view.time else line
