"""Sets in a browser: the gateway's page, which polls nothing, and `<job-list>`."""

from __future__ import annotations

import random
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from .chromium import BrowserContext, Complaints, Page, expect
from .locators import connection_of, row_of
from .proxy import Proxy
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
LIST = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<link rel="icon" href="data:,">
<title>My jobs</title>
<script type="module" src="{gateway}/client.js"></script>
{more}
</html>
"""
ROOM = 45_000
"""Milliseconds within which a job that exceeded a quota is requested again."""


def test_jobs_appear_and_move_on_the_page_without_list_requests(page: Page, served: Served) -> None:
    served.report("video:1", percent=10)
    page.goto(served.url)
    expect(connection_of(page)).to_have_text("Live")
    expect(row_of(page, "video:1")).to_contain_text("10%")
    requested_urls: list[str] = []
    page.on("request", lambda request: requested_urls.append(request.url))
    active, earlier = (page.get_by_role("region", name=name) for name in ("Active", "Earlier"))

    served.report("video:2", percent=20)
    expect(active.get_by_role("progressbar", name="video:2")).to_be_visible()
    served.report("video:1", status="succeeded")
    expect(earlier.get_by_role("progressbar", name="video:1")).to_be_visible()
    expect(active.get_by_role("listitem")).to_have_count(1)
    assert [url for url in requested_urls if "/api/jobs" in url] == []


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


@pytest.mark.parametrize("transport", ["websocket", "sse", "polling"])
def test_a_job_without_room_is_shown_when_there_is_room(
    complaints: Complaints, page: Page, tmp_path: Path, transport: str
) -> None:
    complaints.expect("WebSocket connection to")
    settings = tmp_path / "gateway.toml"
    settings.write_text("[limits]\nmax_topics = 5\n")
    with ExitStack() as stack:
        served = stack.enter_context(Served("--config", str(settings)))
        proxy = stack.enter_context(Proxy(served.url))
        for job in ("job:1", "job:2", "job:3", "job:4", "other:1", "other:2"):
            served.report(job, percent=37, lease=900)
        others = "".join(f'<job-progress job="other:{i}"></job-progress>' for i in (1, 2))
        second_page = page.context.new_page()
        second_page.goto(
            stack.enter_context(serve_site(LIST.format(gateway=served.url, more=others)))
        )
        expect(second_page.get_by_text("37%", exact=True)).to_have_count(2)

        proxy.refuse_upgrades = transport != "websocket"
        proxy.hold_streams = transport == "polling"
        jobs = '<job-list prefix="job:"></job-list>'
        page.goto(stack.enter_context(serve_site(LIST.format(gateway=proxy.url, more=jobs))))
        bars = page.locator("job-list").get_by_role("progressbar")
        expect(bars).to_have_count(4, timeout=ROOM)
        if transport != "polling":  # which watches nothing for longer than it takes to answer
            expect(page.get_by_text("The gateway is at its limit of jobs.")).to_have_count(2)
            expect(page.get_by_text("37%", exact=True)).to_have_count(2)
        second_page.close()
        expect(page.get_by_text("37%", exact=True)).to_have_count(4, timeout=ROOM)
        expect(page.get_by_text("The gateway is at its limit of jobs.")).to_have_count(0)
        for job in ("job:1", "job:2", "job:3", "job:4"):
            served.report(job, percent=40)
        expect(page.get_by_text("40%", exact=True)).to_have_count(4, timeout=ROOM)


CHURN = 200
"""Jobs that begin and end while pages are open."""
WATCHED: list[dict[str, str]] = [
    {"limit": "50"},
    {"limit": "5"},
    {"limit": "20", "statuses": "running,failed"},
]
SHOWN = """() => [...document.querySelector('job-list').shadowRoot.querySelectorAll('job-progress')]
    .map((bar) => bar.getAttribute('job'))"""


def test_lists_equal_their_sets_after_many_jobs_began_ended_and_were_displaced(
    context: BrowserContext, served: Served
) -> None:
    """Jobs begin, end and are retried faster than pages are drawn; at rest every list is what
    `GET /api/sets` answers, and each ended job in it is shown with its end."""
    chance = random.Random(7)
    running: list[str] = []
    ends: dict[str, str] = {}
    with ExitStack() as stack, httpx.Client(base_url=served.url, trust_env=False) as http:
        pages = []
        for query in WATCHED:
            attributes = " ".join(f'{name}="{value}"' for name, value in query.items())
            html = SITE.format(gateway=served.url).replace('limit="2"', attributes)
            page = context.new_page()
            page.goto(stack.enter_context(serve_site(html)))
            expect(page.get_by_text("No jobs at present.")).to_be_visible()
            pages.append(page)
        for number in range(CHURN):
            updates: list[dict[str, Any]] = [{"job": f"user:7:{number}", "percent": 0}]
            running.append(f"user:7:{number}")
            for job in chance.sample(running, min(3, len(running))):
                status = chance.choice([None, "succeeded", "failed", "cancelled"])
                if status is None:
                    updates.append({"job": job, "percent": chance.randrange(100)})
                else:
                    running.remove(job)
                    ends[job] = status
                    updates.append({"job": job, "status": status})
            if chance.random() < 0.1 and ends:
                job = chance.choice(sorted(ends))
                del ends[job]
                running.append(job)
                updates.append({"job": job, "start": True, "run": f"again-{number}"})
            answers = http.post("/api/jobs", json=updates).json()
            assert all("epoch" in answer for answer in answers), answers

        for query, page in zip(WATCHED, pages, strict=True):
            expected_jobs = http.get("/api/sets", params={"prefix": "user:7:", **query}).json()[
                "jobs"
            ]
            assert len(expected_jobs) == int(query["limit"])
            expect(page.get_by_role("progressbar")).to_have_count(len(expected_jobs))
            page.wait_for_function(
                f"(wanted) => String(({SHOWN})()) === String(wanted)", arg=expected_jobs
            )
            for job in expected_jobs:
                bar = page.locator(f'job-progress[job="{job}"]')
                word = {"succeeded": "Succeeded", "failed": "Failed", "cancelled": "Cancelled"}
                expect(bar).to_contain_text(word.get(ends.get(job, ""), "%"))
