"""`<job-progress>` in a page of another origin."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from .chromium import Page, expect
from .locators import painted_frames
from .served import Served
from .site import serve_site

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<link rel="icon" href="data:,">
<title>A shop</title>
<script type="module" src="{gateway}/client.js"></script>
<h1>Your video</h1>
<job-progress job="video:42"></job-progress>
{more}
</html>
"""
STRICT = "default-src 'none'; script-src {gateway}; connect-src {websocket}; img-src data:"
"""The least that an author's own policy must allow."""


Site = Callable[[str], str]


@pytest.fixture
def site(served: Served) -> Iterator[Site]:
    """Serves a page with the bar and some more HTML; returns its address."""
    with ExitStack() as stack:

        def serve(more: str) -> str:
            policy = STRICT.format(gateway=served.url, websocket=served.url.replace("http", "ws"))
            html = PAGE.format(gateway=served.url, more=more)
            return stack.enter_context(serve_site(html, policy=policy))

        yield serve


def test_an_embedded_bar_is_live(page: Page, served: Served, site: Site) -> None:
    served.report("video:42", done=37, total=100, unit="frames", message="encoding")
    page.goto(site(""))

    bar = page.get_by_role("progressbar", name="video:42", exact=True)
    expect(bar).to_have_attribute("aria-valuenow", "37")
    expect(bar).to_have_attribute("aria-valuemin", "0")
    expect(bar).to_have_attribute("aria-valuemax", "100")
    expect(bar).to_have_attribute("aria-valuetext", "Running, 37%, encoding, 37 / 100 frames")
    expect(page.get_by_text("encoding")).to_be_visible()
    assert {frame.filled for frame in painted_frames(page, "video:42")} == {37.0}

    served.report("video:42", done=80)
    expect(bar).to_have_attribute("aria-valuenow", "80")
    expect(page.get_by_text("80 / 100 frames")).to_be_visible()
    served.report("video:42", status="succeeded")
    expect(page.get_by_text("Succeeded", exact=True)).to_be_visible()
    expect(page.get_by_role("status")).to_contain_text("video:42: Succeeded")


def test_a_label_names_the_bar_and_an_unknown_job_says_so(
    page: Page, served: Served, site: Site
) -> None:
    page.goto(site('<job-progress job="later:1" label="Your invoice"></job-progress>'))
    expect(page.get_by_text("Your invoice", exact=True)).to_be_visible()
    bar = page.get_by_role("progressbar", name="Your invoice", exact=True)
    expect(bar).to_have_attribute(
        "aria-valuetext", "Not known yet, There is no report on this job yet."
    )
    expect(bar).not_to_have_attribute("aria-valuenow", "0")

    served.report("later:1", percent=20)
    expect(bar).to_have_attribute("aria-valuenow", "20")


def test_many_bars_share_one_connection(page: Page, served: Served, site: Site) -> None:
    sockets: list[str] = []
    page.on("websocket", lambda socket: sockets.append(socket.url))
    jobs = [f"batch:{number}" for number in range(100)]
    for job in jobs[::20]:
        served.report(job, percent=50)

    page.goto(site("".join(f'<job-progress job="{job}"></job-progress>' for job in jobs)))
    for job in jobs[::20]:
        bar = page.get_by_role("progressbar", name=job, exact=True)
        expect(bar).to_have_attribute("aria-valuenow", "50")
    assert sockets == [f"{served.url.replace('http', 'ws')}/ws"]
