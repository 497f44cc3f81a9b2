"""The text for a job in a terminal, from its state and the time. Pure.

The texts are those of the page (`web/src/view.js`). Control characters are removed from texts of
workers, because they could control the terminal.
"""

from __future__ import annotations

import re

from attrs import frozen

from ...model.constants import ALMOST_DONE, ETA_GRACE, IDLE_GROUP_AFTER
from ...model.state import State
from ..terminal import CONTROLS

__all__ = ["View", "describe", "duration", "single_line"]

LOOKS = {
    "loading": ("…", "loading"),
    "unknown": ("○", "not known yet"),
    "queued": ("◌", "queued"),
    "running": ("●", "running"),
    "stalled": ("◐", "stalled"),
    "lost": ("✗", "lost"),
    "succeeded": ("✓", "succeeded"),
    "failed": ("✗", "failed"),
    "cancelled": ("–", "cancelled"),
}
"""The icon and the word for each look."""

_CONTROL = re.compile(f"[{CONTROLS}]+")


@frozen
class View:
    """The texts for a job."""

    look: str
    """A key of `LOOKS`."""
    icon: str
    word: str
    percent: float | None
    attempt_text: str
    """`attempt 2`, from the second on."""
    text: str
    """Phase and message, or the error."""
    time: str
    """`2 min left`, `took 34 s`, `silent for 1 min`."""

    @property
    def percent_text(self) -> str:
        return "" if self.percent is None else f"{int(self.percent)}%"


def describe(state: State | None, *, answered: bool = True, now: float) -> View:
    """Returns the view at `now` (Unix seconds). `answered` is False before the first state."""
    look = _look(state) if answered else "loading"
    icon, word = LOOKS[look]
    if state is None:
        return View(look, icon, word, None, "", "", "")
    return View(
        look,
        icon,
        word,
        percent=state.percent,
        attempt_text=f"attempt {state.attempt}" if state.attempt > 1 else "",
        text=_text(state),
        time=_time(state, look, now),
    )


def single_line(text: str) -> str:
    """Returns `text` as one line, without control characters."""
    return " ".join(_CONTROL.sub(" ", text).split())


def duration(seconds: float) -> str:
    """Returns a rounded duration: `8 s`, `1 min 20 s`, `14 min`, `2 h 5 min`, `3 d 4 h`."""
    whole = max(0, round(seconds))
    if whole < 1:
        return "less than 1 s"
    if whole < 60:
        return f"{whole} s"
    if whole < 600:
        return _join(whole // 60, "min", whole % 60, "s")
    minutes = round(whole / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return _join(minutes // 60, "h", minutes % 60, "min")
    hours = round(minutes / 60)
    return _join(hours // 24, "d", hours % 24, "h")


def _look(state: State | None) -> str:
    if state is None:
        return "unknown"
    if state.status == "running" and state.health != "ok":
        return state.health
    return state.status


def _text(state: State) -> str:
    if state.status == "failed" and state.error:
        return single_line(state.error)
    parts = [state.message] if state.final else [state.phase, state.message]
    return " · ".join(single_line(part) for part in parts if part)


def _time(state: State, look: str, now: float) -> str:
    since = now - state.updated_at
    idle = state.children is not None and not state.children.running
    if look in ("stalled", "lost") or (look == "running" and idle and since >= IDLE_GROUP_AFTER):
        return f"silent for {_rounded_duration(since)}"
    if state.final and state.started_at is not None and state.finished_at is not None:
        duration_text = duration(state.finished_at - state.started_at)
        return f"took {duration_text}" if look == "succeeded" else f"after {duration_text}"
    if look != "running" or state.eta is None:
        return ""
    remaining = state.eta - since
    if remaining >= 1:
        return f"{_rounded_duration(remaining)} left"
    is_almost_done = state.percent is not None and state.percent >= ALMOST_DONE
    return "almost done" if is_almost_done and remaining > -ETA_GRACE else ""


def _rounded_duration(seconds: float) -> str:
    """Returns a running duration: in whole minutes from two minutes on, so that it changes
    seldom."""
    return duration(seconds if seconds < 120 else round(seconds / 60) * 60)


def _join(large: int, unit: str, small: int, subunit: str) -> str:
    return f"{large} {unit}" + (f" {small} {subunit}" if small else "")
