"""Finding one job among many, and the page without jobs."""

from __future__ import annotations

from typing import Any

import pytest

from .chromium import Locator, Page, expect
from .locators import row_of
from .served import Served

STATES: dict[str, dict[str, Any]] = {
    "video:1": {"percent": 10},
    "video:2": {"status": "succeeded"},
    "import:1": {"percent": 30},
    "import:2": {"status": "failed", "error": "no such file"},
    "report:1": {"status": "queued"},
}


@pytest.fixture
def jobs(page: Page, served: Served) -> Locator:
    """All rows of a page with these jobs."""
    for job, state in STATES.items():
        served.report(job, **state)
    page.goto(served.url)
    rows = page.get_by_role("listitem")
    expect(rows).to_have_count(len(STATES))
    return rows


def test_active_jobs_come_first(page: Page, jobs: Locator) -> None:
    active = page.get_by_role("region", name="Active").get_by_role("progressbar")
    earlier = page.get_by_role("region", name="Earlier").get_by_role("progressbar")
    assert [bar.get_attribute("aria-label") for bar in active.all()] == [
        "import:1",
        "video:1",
        "report:1",
    ]
    assert [bar.get_attribute("aria-label") for bar in earlier.all()] == ["import:2", "video:2"]


def test_the_keyboard_alone_finds_a_job(page: Page, served: Served, jobs: Locator) -> None:
    page.keyboard.press("/")
    search = page.get_by_role("searchbox", name="Search jobs")
    expect(search).to_be_focused()
    expect(search).to_have_value("")
    page.keyboard.type("video:")
    expect(jobs).to_have_count(2)
    expect(row_of(page, "import:1")).to_have_count(0)

    page.keyboard.press("Tab")
    expect(page.get_by_role("combobox", name="Prefix")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("radio", name="All", exact=True)).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("radio", name="Running")).to_be_checked()
    expect(jobs).to_have_count(1)
    expect(row_of(page, "video:1")).to_be_visible()

    page.reload()
    expect(search).to_have_value("video:")
    expect(page.get_by_role("radio", name="Running")).to_be_checked()
    expect(jobs).to_have_count(1)

    search.fill("nothing")
    expect(page.get_by_role("heading", name="No job matches")).to_be_visible()
    page.get_by_role("button", name="Show all jobs").press("Enter")
    expect(jobs).to_have_count(len(STATES))
    expect(search).to_be_focused()


@pytest.mark.parametrize(
    ("choice", "found"),
    [("Running", 2), ("Queued", 1), ("Failed", 1), ("Succeeded", 1), ("Cancelled", 0)],
)
def test_jobs_can_be_filtered_by_status(page: Page, jobs: Locator, choice: str, found: int) -> None:
    # Its circle is not drawn, as with any segmented control: a person clicks on the word.
    page.get_by_role("group", name="Status").get_by_text(choice).click()
    expect(page.get_by_role("radio", name=choice)).to_be_checked()
    expect(jobs).to_have_count(found)


def test_a_job_that_begins_to_match_appears(page: Page, served: Served, jobs: Locator) -> None:
    page.get_by_role("group", name="Status").get_by_text("Failed").click()
    expect(jobs).to_have_count(1)
    served.report("video:1", status="failed", error="disk full")
    expect(row_of(page, "video:1")).to_contain_text("disk full")


def test_the_empty_page_shows_how_to_start(page: Page, served: Served) -> None:
    page.goto(served.url)
    expect(page.get_by_role("heading", name="No jobs yet")).to_be_visible()
    expect(page.get_by_text(f"PROGRESS_GATEWAY_URL={served.url} python")).to_be_visible()
    expect(page.get_by_text("from gateway import Job")).to_be_visible()
    expect(page.get_by_text("gateway demo", exact=True)).to_be_visible()

    served.report("hello:world", percent=1)
    expect(row_of(page, "hello:world")).to_contain_text("1%")
    expect(page.get_by_role("heading", name="No jobs yet")).to_be_hidden()
