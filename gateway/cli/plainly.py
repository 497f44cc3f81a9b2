"""Shows for what is no terminal: a line per change for people, or per frame for programs."""

from __future__ import annotations

import time

import click

from .known import Known
from .view import View, describe

__all__ = ["FrameLines", "Lines"]


class Lines:
    """A line whenever a job's words or its whole percentage change."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self._last: dict[str, tuple[str, ...]] = {}

    def connected(self, node: str) -> None:
        """Nothing to say: it is what was expected."""

    def away(self, why: str, seconds: float) -> None:
        click.echo(f"gateway: {why}; trying again in {seconds:.1f} s", err=True)

    def progress(self, text: str, job: str) -> None:
        view = describe(self._known.states[job], now=time.time())
        phase = view.text if view.percent is None else ""
        changed = view.word, view.attempt, view.figure, phase
        if self._last.get(job) != changed:
            self._last[job] = changed
            click.echo(f"{time.strftime('%H:%M:%S')} {_line(job, view)}")

    def gap(self, text: str, job: str) -> None:
        click.echo(f"gateway: some events of {job} were missed", err=True)

    def trouble(self, what: str) -> None:
        click.echo(f"gateway: {what}", err=True)


class FrameLines:
    """Each frame as it was received, on a line of its own."""

    def connected(self, node: str) -> None:
        """Nothing to say: no frame of a job."""

    def away(self, why: str, seconds: float) -> None:
        click.echo(f"gateway: {why}; trying again in {seconds:.1f} s", err=True)

    def progress(self, text: str, job: str) -> None:
        click.echo(text)

    def gap(self, text: str, job: str) -> None:
        click.echo(text)

    def trouble(self, what: str) -> None:
        click.echo(f"gateway: {what}", err=True)


def _line(job: str, view: View) -> str:
    parts = [job, view.word, view.figure, view.attempt and f"({view.attempt})", view.text]
    line = " ".join(part for part in parts if part)
    return f"{line} ({view.time})" if view.time else line
