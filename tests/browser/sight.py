"""Where a person looks: the row of a job, its bar, and what was on the screen so far."""

from __future__ import annotations

from attrs import frozen

from .chromium import Locator, Page

__all__ = ["Seen", "bar_of", "connection_of", "fact_of", "row_of", "seen_of"]


def bar_of(page: Page, job: str) -> Locator:
    """Its bar, as assistive technology finds it."""
    return page.get_by_role("progressbar", name=job, exact=True)


def row_of(page: Page, job: str) -> Locator:
    """All that the page says of it."""
    return page.get_by_role("listitem").filter(has=bar_of(page, job))


def connection_of(page: Page) -> Locator:
    """The button at the top that says whether this is live."""
    return page.get_by_role("banner").get_by_role("button")


def fact_of(page: Page, term: str) -> str:
    """What the connection panel says of this; it is open from then on."""
    panel = page.get_by_role("dialog", name="Connection")
    if not panel.is_visible():
        connection_of(page).click()
    found = panel.get_by_role("term").filter(has_text=term)
    return found.locator("xpath=following-sibling::dd[1]").inner_text()


@frozen
class Seen:
    """What was on the screen in one frame."""

    job: str
    filled: float
    """How much of the bar had colour, 0 to 100."""
    visible: bool
    """Whether there was a bar at all."""
    figure: str
    attempt: str
    time: str


def seen_of(page: Page, job: str, *, more: int = 20) -> list[Seen]:
    """Every frame so far in which this job had a visible bar, and `more` from now on: longer
    than a bar takes to move to where it belongs."""
    page.evaluate("(more) => __painted(more)", more)
    frames = [Seen(**frame) for frame in page.evaluate("__seen")]
    return [frame for frame in frames if frame.job == job and frame.visible]
