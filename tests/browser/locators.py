"""Locators for the page: a job's row and bar, and the frames that were painted."""

from __future__ import annotations

from attrs import frozen

from .chromium import Locator, Page

__all__ = ["PaintedFrame", "bar_of", "connection_fact", "connection_of", "painted_frames", "row_of"]


def bar_of(page: Page | Locator, job: str) -> Locator:
    """Returns the job's bar, found by its accessible role."""
    return page.get_by_role("progressbar", name=job, exact=True)


def row_of(page: Page, job: str) -> Locator:
    """Returns the job's row."""
    return page.get_by_role("listitem").filter(has=bar_of(page, job))


def connection_of(page: Page) -> Locator:
    """Returns the button at the top that shows the state of the connection."""
    return page.get_by_role("banner").get_by_role("button")


def connection_fact(page: Page, term: str) -> str:
    """Opens the connection panel, and returns a value in it."""
    panel = page.get_by_role("dialog", name="Connection")
    if not panel.is_visible():
        connection_of(page).click()
    found = panel.get_by_role("term").filter(has_text=term)
    return found.locator("xpath=following-sibling::dd[1]").inner_text()


@frozen
class PaintedFrame:
    """A job's bar in one painted frame."""

    job: str
    filled: float
    """The filled part of the bar, 0 to 100."""
    visible: bool
    """Whether there was a bar."""
    figure: str
    attempt: str
    time: str


def painted_frames(page: Page, job: str, *, more: int = 20) -> list[PaintedFrame]:
    """Returns all frames so far in which this job had a visible bar, and the next `more` frames:
    longer than the animation of a bar."""
    page.evaluate("(more) => __painted(more)", more)
    frames = [PaintedFrame(**frame) for frame in page.evaluate("__seen")]
    return [frame for frame in frames if frame.job == job and frame.visible]
