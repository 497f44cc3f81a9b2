"""Live bars in a terminal: a row for each job, and below them a line about the connection."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import trio
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from .format import View, describe, single_line
from .job_states import JobStates

__all__ = ["Bars"]

FRAMES_PER_SECOND = 10
"""Redraws per second: smooth enough for text."""

STYLES = {
    "running": "cyan",
    "succeeded": "green",
    "failed": "red",
    "lost": "red",
    "stalled": "yellow",
    "cancelled": "magenta",
}


class Bars:
    """Draws the known states, inside `drawn` and while `keep_drawing` runs."""

    def __init__(self, job_states: JobStates, url: str, *, console: Console | None = None) -> None:
        self._job_states = job_states
        self._url = url
        self._connection_text = f"connecting to {url}"
        self._retry_at: float | None = None
        self._console = console or Console()

    @contextmanager
    def drawn(self) -> Iterator[None]:
        """Shows the bars. At the end of the context the last drawing stays in the terminal."""
        with Live(
            get_renderable=self.render,
            console=self._console,
            auto_refresh=False,  # a Trio task refreshes it, instead of a thread
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="ellipsis",
        ) as live:
            self._live = live
            yield

    async def keep_drawing(self) -> None:
        """Redraws regularly, because estimates also count down without new frames."""
        while True:
            self._live.refresh()
            await trio.sleep(1 / FRAMES_PER_SECOND)

    def on_connected(self, node: str) -> None:
        self._connection_text = f"connected to {self._url}"
        self._retry_at = None

    def on_disconnected(self, reason: str, seconds: float) -> None:
        self._connection_text = single_line(reason)
        self._retry_at = time.monotonic() + seconds

    def on_progress(self, frame: str, job: str) -> None:
        """Does nothing, because the next drawing shows the change."""

    def on_job_set(self, frame: str) -> None:
        """Does nothing, because the next drawing shows the change."""

    def on_gap(self, frame: str, job: str) -> None:
        """Does nothing, because bars show only the newest state."""

    def on_warning(self, text: str) -> None:
        self._connection_text = single_line(text)

    def render(self) -> RenderableType:
        """Returns all rows, and the line about the connection unless all jobs have ended."""
        table = Table.grid(padding=(0, 1), expand=True)
        width = self._console.width
        jobs = self._job_states.jobs
        names = max((len(job) for job in jobs), default=0) + 2
        table.add_column(no_wrap=True, overflow="ellipsis", width=min(names, width * 2 // 5))
        table.add_column(no_wrap=True, width=width // 5)
        table.add_column(no_wrap=True, justify="right", width=4)
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        table.add_column(no_wrap=True, justify="right")
        now = time.time()
        for job in jobs:
            state = self._job_states.states.get(job)
            view = describe(state, answered=job in self._job_states.states, now=now)
            table.add_row(*_row(job, view, dim=self._retry_at is not None))
        if self._job_states.finished:
            return table
        return Group(table, *self._set_lines(), self._connection_line())

    def _set_lines(self) -> list[Text]:
        """Returns a line for each set that has no jobs, or more jobs than are shown."""
        lines = []
        for prefix, known in self._job_states.sets.items():
            if known is not None and known.total > len(known.jobs):
                words = f"{prefix}* has {known.total - len(known.jobs)} more jobs"
                lines.append(Text(words, style="dim"))
            elif known is not None and not known.jobs:
                lines.append(Text(f"no job begins with {prefix!r} yet", style="dim"))
        return lines

    def _connection_line(self) -> Text:
        if self._retry_at is None:
            return Text(self._connection_text, style="dim", no_wrap=True, overflow="ellipsis")
        remaining = max(0.0, self._retry_at - time.monotonic())
        words = (
            f"{self._connection_text}; retrying in {remaining:.0f} s "
            "(the states may be out of date)"
        )
        return Text(words, style="yellow", no_wrap=True, overflow="ellipsis")


def _row(job: str, view: View, *, dim: bool) -> tuple[RenderableType, ...]:
    style = "dim" if dim else STYLES.get(view.look, "dim")
    name = Text.assemble((f"{view.icon} ", style), (job, "bold"))
    parts = [
        (view.word if view.look != "running" else "", style),
        (view.attempt_text, "dim"),
        (view.text, ""),
    ]
    text = Text(" · ").join(Text(part, style) for part, style in parts if part)
    bar: RenderableType = Text("")
    if view.percent is not None:
        bar = ProgressBar(
            total=100, completed=view.percent, complete_style=style, finished_style=style
        )
    elif view.look == "running":
        bar = ProgressBar(total=None, pulse=True, pulse_style=style)
    return name, bar, Text(view.percent_text), text, Text(view.time, style="dim")
