"""axe-core, which checks pages for accessibility, finds no violation in any state."""

from __future__ import annotations

import secrets
from contextlib import ExitStack
from typing import Any

import pytest

from .bundled import MODULES
from .chromium import Complaints, Page, expect
from .served import Served
from .site import serve_site

SIZES = ((1280, 800), (768, 1024), (390, 844), (320, 568))
SCHEMES = ("light", "dark")
STATES = ("queued", "running", "unknown", "stalled", "failed", "succeeded", "cancelled", "retried")
SITE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<style>:root {{ color-scheme: light dark }} body {{ background: light-dark(#fff, #111) }}</style>
<link rel="icon" href="data:,">
<title>A shop</title>
<script type="module" src="{gateway}/client.js"></script>
<main>
<h1>Orders</h1>
{elements}
</main>
</html>"""
ALL_JOBS = '<job-list prefix="job:" label="All jobs"></job-list>'


@pytest.fixture
def axe() -> str:
    path = MODULES / "axe-core" / "axe.min.js"
    if not path.exists():
        pytest.skip("needs the client's development packages: cd web && npm install")
    return path.read_text("utf-8")


@pytest.fixture
def jobs(served: Served) -> Served:
    """A gateway with a job in each state, and a group."""
    served.report("job:queued", status="queued", message="behind others")
    served.report("job:running", percent=37, phase="encode", message="frame 4", accepts=["cancel"])
    served.report("job:unknown", message="no percentage is known", accepts=["pause", "resume"])
    served.report("job:stalled", percent=20, message="about to stall", lease=1)
    served.report("job:failed", status="failed", error="Traceback:\n  line 3\nValueError: no")
    served.report("job:succeeded", status="succeeded", done=3, total=3, unit="files")
    served.report("job:cancelled", status="cancelled", message="by ada")
    served.report("job:retried", status="failed", error="disk full")
    served.report("job:retried", start=True, percent=12)
    served.report("group:1", children=2)
    served.report("group:1/a", percent=50)
    served.report("group:1/b", status="failed", error="disk full")
    return served


def violations_in(page: Page, axe: str) -> dict[str, Any]:
    """Returns what axe finds in the page as it is now, in each size and both colour schemes."""
    page.evaluate(axe)
    violations_by_view = {}
    for scheme in SCHEMES:
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        for width, height in SIZES:
            page.set_viewport_size({"width": width, "height": height})
            violations = page.evaluate(
                """async () => (await axe.run({ resultTypes: ['violations'] })).violations.map(
                     ({ id, nodes }) => [id, nodes.map(({ target, failureSummary }) =>
                       [target.join(' '), failureSummary])])"""
            )
            if violations:
                violations_by_view[f"{width}x{height} {scheme}"] = violations
    return violations_by_view


def test_axe_finds_nothing_on_the_page_and_its_panels(page: Page, jobs: Served, axe: str) -> None:
    page.goto(jobs.url)
    expect(page.get_by_text("Stalled at 20%")).to_be_visible()
    page.get_by_role("button", name="1 failed").click()
    expect(page.get_by_text("group:1/b", exact=True)).to_be_visible()
    assert violations_in(page, axe) == {}

    page.set_viewport_size({"width": 1280, "height": 800})
    page.get_by_role("link", name="Details of job:failed").click()
    expect(page.get_by_role("dialog", name="job:failed")).to_be_visible()
    assert violations_in(page, axe) == {}
    page.keyboard.press("Escape")

    page.set_viewport_size({"width": 1280, "height": 800})
    page.get_by_role("button", name="Live", exact=True).click()
    expect(page.get_by_role("dialog", name="Connection")).to_be_visible()
    assert violations_in(page, axe) == {}


def test_axe_finds_nothing_on_the_empty_page(page: Page, served: Served, axe: str) -> None:
    page.goto(served.url)
    expect(page.get_by_role("heading", name="No jobs yet")).to_be_visible()
    assert violations_in(page, axe) == {}


def test_axe_finds_nothing_on_the_page_without_a_match_and_without_the_gateway(
    complaints: Complaints, page: Page, jobs: Served, axe: str
) -> None:
    page.goto(f"{jobs.url}/?search=nothing-has-this-name")
    expect(page.get_by_role("heading", name="No job matches")).to_be_visible()
    assert violations_in(page, axe) == {}

    complaints.expect("ERR_|WebSocket connection to")
    page.set_viewport_size({"width": 1280, "height": 800})
    page.get_by_role("button", name="Show all jobs").click()
    expect(page.get_by_text("Stalled at 20%")).to_be_visible()
    jobs.kill()
    expect(page.get_by_text("reconnecting…").first).to_be_visible()
    assert violations_in(page, axe) == {}


def test_axe_finds_nothing_on_the_page_that_needs_a_token(
    complaints: Complaints, page: Page, axe: str
) -> None:
    complaints.expect("401|closed with|WebSocket connection to")
    with Served("--secret", secrets.token_urlsafe(32)) as served:
        page.goto(served.url)
        expect(page.get_by_role("heading", name="This gateway requires a token")).to_be_visible()
        assert violations_in(page, axe) == {}
        page.set_viewport_size({"width": 1280, "height": 800})
        page.get_by_label("Token").fill("a.b.c")
        page.get_by_role("button", name="Show jobs").click()
        expect(page.get_by_role("alert")).to_be_visible()
        assert violations_in(page, axe) == {}


LISTS = """<job-list prefix="job:" limit="3" actions></job-list>
<job-list prefix="none:">No orders at present.</job-list>
<job-list prefix="this is no prefix"></job-list>"""


def test_axe_finds_nothing_in_lists_in_each_state(
    complaints: Complaints, page: Page, jobs: Served, axe: str
) -> None:
    with serve_site(SITE.format(gateway=jobs.url, elements=LISTS)) as site:
        page.goto(site)
        expect(page.get_by_text("5 more")).to_be_visible()
        expect(page.get_by_text("No orders at present.")).to_be_visible()
        assert violations_in(page, axe) == {}

        complaints.expect("ERR_|WebSocket connection to")
        jobs.kill()
        expect(page.get_by_text("reconnecting…").first).to_be_visible()
        assert violations_in(page, axe) == {}


def test_axe_finds_nothing_in_the_elements(
    complaints: Complaints, page: Page, jobs: Served, axe: str
) -> None:
    names = [f"job:{state}" for state in STATES] + ["group:1", "nobody:1", "this is no id"]
    bars = "".join(f'<job-progress job="{name}" actions></job-progress>\n' for name in names)
    with ExitStack() as stack:
        site = stack.enter_context(
            serve_site(SITE.format(gateway=jobs.url, elements=bars + ALL_JOBS))
        )
        page.goto(site)
        expect(page.get_by_text("Stalled at 20%").first).to_be_visible()
        expect(page.get_by_role("button", name="Stop").first).to_be_visible()
        assert violations_in(page, axe) == {}

        complaints.expect("ERR_CONNECTION_REFUSED")
        jobs.kill()
        expect(page.get_by_text("reconnecting…").first).to_be_visible()
        assert violations_in(page, axe) == {}
