"""Sets in a browser: the gateway's page, which polls nothing, and `<job-list>`."""

from __future__ import annotations

from .chromium import Page, expect
from .locators import connection_of, row_of
from .served import Served
from .site import serve_site

SITE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<link rel="icon" href="data:,">
<title>My jobs</title>
<script type="module" src="{gateway}/client.js"></script>
<job-list prefix="user:7:" limit="2">No jobs at present.</job-list>
</html>
"""


def test_jobs_appear_and_move_on_the_page_without_list_requests(page: Page, served: Served) -> None:
    served.report("video:1", percent=10)
    page.goto(served.url)
    expect(connection_of(page)).to_have_text("Live")
    expect(row_of(page, "video:1")).to_contain_text("10%")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    active, earlier = (page.get_by_role("region", name=name) for name in ("Active", "Earlier"))

    served.report("video:2", percent=20)
    expect(active.get_by_role("progressbar", name="video:2")).to_be_visible()
    served.report("video:1", status="succeeded")
    expect(earlier.get_by_role("progressbar", name="video:1")).to_be_visible()
    expect(active.get_by_role("listitem")).to_have_count(1)
    assert [url for url in asked if "/api/jobs" in url] == []


def test_a_list_element_shows_the_jobs_with_its_prefix(page: Page, served: Served) -> None:
    gateway = served
    with serve_site(SITE.format(gateway=gateway.url)) as site:
        page.goto(site)
        expect(page.get_by_text("No jobs at present.")).to_be_visible()
        gateway.report("user:70", percent=5)
        gateway.report("user:7:a", percent=10)
        bars = page.get_by_role("progressbar")
        expect(bars).to_have_count(1)
        expect(page.get_by_role("progressbar", name="user:7:a")).to_be_visible()
        gateway.report("user:7:b", percent=20)
        gateway.report("user:7:c", percent=30)
        expect(page.get_by_text("1 more")).to_be_visible()
        gateway.report("user:7:c", status="failed", error="why not")
        gateway.report("user:7:b", status="succeeded")
        for job in ("user:7:a", "user:7:b"):
            expect(page.get_by_role("progressbar", name=job)).to_be_visible()
        expect(bars).to_have_count(2)
