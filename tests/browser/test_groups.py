"""The page shows a group as a tree: its row has counts, and opens to its children."""

from __future__ import annotations

import sys

from tests.cli.processes import Running

from .chromium import Page, expect
from .locators import bar_of, row_of
from .served import Served


def test_a_groups_row_opens_to_its_children(page: Page, served: Served) -> None:
    served.report("batch:1", children=4, accepts=["cancel"])
    served.report("batch:1/north", percent=40, accepts=["cancel"])
    served.report("batch:1/south", status="failed", error="no disk")
    page.goto(served.url)
    row = row_of(page, "batch:1")
    expect(row).to_contain_text("35%")
    expect(row).to_contain_text("1 / 4 · 1 failed")
    toggle = row.get_by_role("button", name="Children of batch:1")
    expect(toggle).to_have_text("1 running · 1 failed")
    expect(toggle).to_have_attribute("aria-expanded", "false")
    toggle.click()
    expect(toggle).to_have_attribute("aria-expanded", "true")

    children = page.get_by_role("group", name="Children of batch:1")
    bars = children.get_by_role("progressbar")
    expect(bars).to_have_count(2)
    expect(bar_of(children, "batch:1/north")).to_have_attribute("aria-valuenow", "40")
    expect(children.get_by_role("button", name="Stop batch:1/north")).to_be_visible()
    served.report("batch:1/east", percent=10)
    expect(bars).to_have_count(3)
    served.report("batch:1/north", status="succeeded")
    served.report("batch:1/east", status="succeeded")
    served.report("batch:1/west", status="succeeded")
    expect(row).to_contain_text("1 of 4 failed")
    expect(toggle).to_have_text("1 failed · 3 succeeded")
    expect(children.get_by_role("listitem").first).to_contain_text("no disk")

    # It is in no other place of the page, unless it is searched for.
    expect(page.get_by_role("link", name="Details of batch:1/north")).to_have_count(0)

    toggle.click()
    expect(children).to_have_count(0)
    page.get_by_role("searchbox", name="Search jobs").fill("batch:1/n")
    expect(page.get_by_role("link", name="Details of batch:1/north")).to_be_visible()


WORKERS = """
import sys
import threading
from gateway import Job

def work(job):
    with job:
        while True:
            job.check()
            threading.Event().wait(0.01)

with Job("batch:1", url=sys.argv[1], children=3, accepts={"cancel"}) as group:
    for name in ("north", "south", "east"):
        child = group.child(name, accepts={"cancel"})
        child.update()
        threading.Thread(target=work, args=(child,)).start()
"""
"""A group whose block ends at once: only its children are at work."""


def test_a_group_is_stopped_with_all_its_workers(page: Page, served: Served) -> None:
    with Running(sys.executable, "-c", WORKERS, served.url) as worker:
        page.goto(served.url)
        row = row_of(page, "batch:1")
        expect(row).to_contain_text("0 / 3")
        row.get_by_role("button", name="Stop batch:1", exact=True).click()
        expect(row).to_contain_text("Cancelled")
        row.get_by_role("button", name="Children of batch:1").click()
        children = page.get_by_role("group", name="Children of batch:1")
        expect(children.get_by_text("Cancelled")).to_have_count(3)
        expect(row.get_by_role("button", name="Stop")).to_have_count(0)
        assert worker.process.wait(20) is not None
