"""What the tests in a browser share: one Chromium, and for each test an empty profile and
a gateway of its own. They assert what a person sees or hears: roles, names, text, pixels.

They are plain functions, as Playwright's synchronous API runs a loop of its own in this
thread; it is closed with this folder's last test, before others want to run theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

    from .chromium import Complaints
    from .served import Served


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    from .chromium import launched

    with launched() as browser:
        yield browser


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """An empty profile, with the recorder (see `recorder.js`) in each of its pages."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.add_init_script(path=Path(__file__).parent / "recorder.js")
    yield context
    context.close()


@pytest.fixture(autouse=True)
def complaints(context: BrowserContext) -> Iterator[Complaints]:
    """The errors of the pages; a test fails if there is one that it did not expect."""
    from .chromium import Complaints

    complaints = Complaints(context)
    yield complaints
    assert complaints.unexpected == []


@pytest.fixture
def page(context: BrowserContext) -> Page:
    return context.new_page()


@pytest.fixture
def served() -> Iterator[Served]:
    """A gateway with no jobs."""
    from .served import Served

    with Served() as served:
        yield served
