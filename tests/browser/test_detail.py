"""One job in full, and what a developer sees of the connection."""

from __future__ import annotations

import re

from .chromium import BrowserContext, Page, expect
from .served import Served
from .sight import connection_of, row_of


def test_a_job_in_full_with_its_history(page: Page, served: Served) -> None:
    evil = "<img src=x onerror=\"document.title='owned'\">"
    served.report("batch:1", percent=1)
    for percent in (10, 35, 70):
        served.report("video:42", percent=percent, message=f"at {percent}", parent="batch:1")
    served.report("video:42", data={"codec": "av1", "evil": evil})
    page.goto(served.url)
    page.get_by_role("link", name="Details of video:42").click()

    detail = page.get_by_role("dialog", name="video:42")
    expect(detail.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "70")
    chart = detail.get_by_role(
        "img", name=re.compile("^Progress of video:42 over .*: Running, 70%")
    )
    expect(chart).to_be_visible()
    expect(detail).to_contain_text("Since its start at")
    changes = detail.get_by_role("row")
    expect(changes).to_have_count(1 + 4)
    expect(changes.nth(2)).to_contain_text("70%, at 70")
    expect(changes.last).to_contain_text("attempt 1, running, 10%, at 10")
    expect(detail).to_contain_text("<img src=x onerror=")
    assert "owned" not in page.title()

    served.report("video:42", status="failed", error="no disk")
    expect(changes.nth(1)).to_contain_text("failed, no disk")
    expect(detail.get_by_role("definition").first).to_have_text("failed")

    page.reload()  # the address says what is looked at
    expect(detail.get_by_role("row").nth(1)).to_contain_text("failed, no disk")
    detail.get_by_role("link", name="batch:1").click()
    expect(page.get_by_role("dialog", name="batch:1")).to_be_visible()
    page.go_back()
    expect(detail).to_be_visible()


def test_the_keyboard_opens_and_closes_it(page: Page, served: Served) -> None:
    for number in range(3):
        served.report(f"job:{number}", percent=number)
    page.goto(served.url)
    expect(row_of(page, "job:0")).to_be_visible()
    page.keyboard.press("/")
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("link", name="Details of job:2")).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    detail = page.get_by_role("dialog", name="job:1")
    expect(detail).to_be_visible()
    page.keyboard.press("Escape")
    expect(detail).to_be_hidden()
    expect(page.get_by_role("link", name="Details of job:1")).to_be_focused()
    assert "job=" not in page.url


def test_a_job_nobody_knows(page: Page, served: Served) -> None:
    page.goto(f"{served.url}/?job=later:1")
    detail = page.get_by_role("dialog", name="later:1")
    expect(detail).to_contain_text("Nobody has reported on this job so far.")
    served.report("later:1", percent=5)
    expect(detail.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "5")


def test_the_panel_can_be_shown_to_a_colleague(
    context: BrowserContext, page: Page, served: Served
) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(served.url)
    expect(connection_of(page)).to_have_text("Live")
    connection_of(page).click()
    panel = page.get_by_role("dialog", name="Connection")
    happened = panel.get_by_role("list", name="What happened").get_by_role("listitem")
    expect(happened).to_have_count(2)
    expect(happened.first).to_contain_text("Live, node")
    expect(happened.last).to_contain_text("Dialling by a WebSocket")
    pings = panel.get_by_role("img", name=re.compile("pings: "))
    expect(pings).to_have_count(0)
    for answered in range(1, 4):
        page.evaluate("dispatchEvent(new Event('online'))")
        if answered > 1:
            expect(panel).to_contain_text(f"{answered} pings: ")
        else:
            expect(panel).not_to_contain_text("Round trip–")
    expect(pings).to_be_visible()

    panel.get_by_role("button", name="Copy as text").click()
    expect(panel.get_by_role("button", name="Copied")).to_be_visible()
    text = page.evaluate("navigator.clipboard.readText()")
    assert "Violations: 0" in text
    assert "Live, node" in text
