"""The React hooks under the real React: StrictMode, concurrent rendering, hydration, and the
drop-in for a hook that a project grew by itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import pytest

from .bundled import bundle, node
from .chromium import SOON, Complaints, Locator, Page, WebSocket, expect
from .served import Served
from .site import serve_site

HERE = Path(__file__).parent / "react"
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<link rel="icon" href="data:,">
<title>An application</title>
<div id="root" data-gateway="{gateway}" data-view="{view}" data-strict="{strict}">{html}</div>
<script type="module" src="/app.js"></script>
</html>
"""


@pytest.fixture(scope="module")
def app() -> str:
    return bundle(HERE / "entry.jsx", "--format=esm")


Show = Callable[..., None]


@pytest.fixture
def show(page: Page, served: Served, app: str) -> Iterator[Show]:
    """Shows one of the application's views, in StrictMode unless told otherwise."""
    with ExitStack() as stack:

        def show(view: str, *, strict: bool = True, html: str = "") -> None:
            body = PAGE.format(
                gateway=f"{served.url}/ws", view=view, strict="1" if strict else "", html=html
            )
            page.goto(stack.enter_context(serve_site(body, scripts={"/app.js": app})))

        yield show


@pytest.fixture
def sent_commands(page: Page) -> list[dict[str, Any]]:
    """The commands that the page has sent so far; fails if it opens a second socket."""
    sent_commands: list[dict[str, Any]] = []
    sockets: list[str] = []

    def opened(socket: WebSocket) -> None:
        sockets.append(socket.url)
        assert len(sockets) == 1, "a second socket"
        socket.on("framesent", lambda text: sent_commands.append(json.loads(text)))

    page.on("websocket", opened)
    return sent_commands


def wanted_in(sent_commands: list[dict[str, Any]]) -> list[set[str]]:
    """Returns the wanted sets that were sent, in order."""
    return [
        set(command["jobs"]) for command in sent_commands if command["type"] == "sync_subscriptions"
    ]


def wait_until_true(page: Page, true: Callable[[], bool]) -> None:
    """Waits until a condition outside of the page is true."""
    give_up_at = monotonic() + SOON / 1000
    while not true():
        assert monotonic() < give_up_at, "it never came true"
        page.wait_for_timeout(20)  # Playwright delivers the page's events only while it waits


def bars_of(page: Page) -> Locator:
    return page.get_by_role("progressbar", name="video:42")


def test_strict_mode_subscribes_once(
    page: Page, served: Served, show: Show, sent_commands: list[dict[str, Any]]
) -> None:
    served.report("video:42", percent=37, message="encoding")
    show("App")
    expect(bars_of(page)).to_have_text(["running 37% encoding"] * 2)
    expect(page.get_by_role("status")).to_have_text("live, 0 violations, 0 reconnects")
    assert wanted_in(sent_commands) == [{"a", "b", "video:42"}]
    served.report("video:42", percent=80)
    served.report("b", percent=5)
    expect(bars_of(page).first).to_have_attribute("aria-valuenow", "80")
    expect(page.get_by_text("both: null 5")).to_be_visible()

    page.get_by_role("button", name="toggle").click()
    expect(bars_of(page)).to_have_count(0)
    wait_until_true(page, lambda: wanted_in(sent_commands)[-1] == {"a", "b"})

    served.report("video:42", percent=81)
    page.get_by_role("button", name="toggle").click()
    expect(bars_of(page).first).to_have_attribute("aria-valuenow", "81")
    served.report("video:42", status="succeeded")
    expect(bars_of(page).first).to_contain_text("succeeded 100%")


def test_concurrent_rendering_shows_one_state(page: Page, served: Served, show: Show) -> None:
    served.report("video:42", percent=0)
    show("Many", strict=False)
    expect(page.get_by_role("listitem")).to_have_count(40)
    for step in range(1, 16):
        page.get_by_role("button", name="again").click()
        served.report("video:42", percent=step)
    expect(page.get_by_role("listitem").last).to_have_text("15")
    assert page.evaluate("torn") == 1
    assert page.evaluate("commits") > 5
    expect(page.get_by_role("status")).to_contain_text("0 violations")


def test_server_rendered_html_is_hydrated(page: Page, served: Served, show: Show) -> None:
    script = bundle(HERE / "server.jsx", "--platform=node", "--format=cjs")
    html = node(script)
    assert "unknown" in html
    assert "connecting" in html

    served.report("video:42", percent=64)
    show("App", strict=False, html=html)  # React warns if the markup does not match
    expect(bars_of(page)).to_have_text(["running 64% "] * 2)


def test_a_custom_hook_is_replaced_by_changing_an_import(
    page: Page, served: Served, show: Show, sent_commands: list[dict[str, Any]]
) -> None:
    served.report("video:42", percent=1)
    show("Socket")
    expect(page.get_by_role("status")).to_have_text("connected")
    log = page.get_by_role("listitem")
    expect(log).to_have_text(["open", "video:42 is at 1"])
    served.report("video:42", percent=2)
    expect(log).to_have_text(["open", "video:42 is at 1", "video:42 went to 2"])
    expect(page.get_by_text("last: 2")).to_be_visible()

    served.report("b", percent=50)
    page.get_by_role("button", name="more").click()
    expect(log.last).to_have_text("b is at 50")
    page.get_by_role("button", name="less").click()
    served.report("b", percent=51)
    expect(log.last).to_have_text("b went to 51")
    wait_until_true(page, lambda: wanted_in(sent_commands)[-1] == {"b"})


def test_a_mounted_job_follows_its_retry_and_each_end_is_reported_once(
    page: Page, served: Served, show: Show
) -> None:
    served.report("video:42", percent=10)
    show("Ends")
    expect(bars_of(page)).to_have_text("running, attempt 1")
    served.report("video:42", status="failed", error="disk full")
    expect(bars_of(page)).to_have_text("failed, attempt 1")
    served.report("video:42", start=True, percent=5)
    expect(bars_of(page)).to_have_text("running, attempt 2")
    served.report("video:42", status="succeeded")
    expect(bars_of(page)).to_have_text("succeeded, attempt 2")
    first = ["1 failed false", "2 succeeded false"]
    log = page.get_by_role("listitem")
    expect(log).to_have_text([f"{who}: {end}" for end in first for who in ("option", "hook")])

    for _ in range(2):  # the known state is shown at once, and marked as stale
        page.get_by_role("button", name="toggle").click()
    expect(bars_of(page)).to_have_text("succeeded, attempt 2")
    expect(log).to_have_count(6)
    expect(log.last).to_have_text("hook: 2 succeeded true")
    expect(page.get_by_role("status")).to_contain_text("0 violations")


def test_the_hook_has_the_shape_of_a_projects_hook(page: Page, served: Served, show: Show) -> None:
    for number in (7, 8):
        served.report(f"project:{number}", percent=number)
    show("Projects")
    status = page.get_by_role("status")
    expect(status).to_have_text("connected, true")
    log = page.get_by_role("listitem")
    expect(log).to_have_text(["connected"])
    page.get_by_role("button", name="send").click()
    expect(log).to_have_text(["connected", "project:7 7", "project:8 8"])
    page.get_by_role("button", name="wrong").click()
    expect(log.last).to_contain_text('no field "projects": name the jobs in "jobs"')
    page.get_by_role("button", name="sync").click()
    served.report("project:7", percent=50)
    served.report("project:8", percent=60)
    expect(log.last).to_have_text("project:8 60")
    page.get_by_role("button", name="disconnect", exact=True).click()
    expect(status).to_have_text("disconnected, false")
    expect(log.last).to_have_text("disconnected")
    page.get_by_role("button", name="connect", exact=True).click()
    expect(status).to_have_text("connected, true")
    expect(log.nth(-2)).to_have_text("connected")
    expect(log.last).to_have_text("project:8 60")


def test_the_replaced_hook_follows_a_retry_and_an_outage(
    complaints: Complaints, page: Page, served: Served, show: Show
) -> None:
    complaints.expect("WebSocket connection to .* failed")
    for number in (7, 8):
        served.report(f"project:{number}", percent=number)
    show("Projects")
    status, log = page.get_by_role("status"), page.get_by_role("listitem")
    lines = ["connected"]
    expect(log).to_have_text(lines)
    page.get_by_role("button", name="send").click()
    lines += ["project:7 7", "project:8 8"]
    expect(log).to_have_text(lines)
    updates: list[tuple[dict[str, Any], str]] = [
        ({"status": "failed", "error": "disk full"}, "project:7 failed"),
        ({"start": True, "percent": 5}, "project:7 5 attempt 2"),
        ({"status": "succeeded"}, "project:7 succeeded attempt 2"),
    ]
    for update, line in updates:
        served.report("project:7", **update)
        lines.append(line)
        expect(log).to_have_text(lines)
    expect(status).to_have_text("connected, true")

    served.kill()
    lines.append("disconnected")
    expect(log).to_have_text(lines)
    served.start()  # jobs in memory are lost with it
    served.report("project:8", percent=80)
    expect(log.last).to_have_text("project:8 80")
    expect(status).to_have_text("connected, true")
    later = log.all_inner_texts()[len(lines) :]
    assert [line for line in later if "connected" in line] == ["connected"]


def test_use_jobs_with_a_prefix_shows_jobs_that_appear_and_end(
    page: Page, served: Served, show: Show, sent_commands: list[dict[str, Any]]
) -> None:
    served.report("user:7:a", percent=10)
    served.report("user:8:a", percent=11)
    show("Sets")
    running = page.get_by_role("list", name="running").get_by_role("listitem")
    expect(running).to_have_text(["user:7:a running 10"])
    served.report("user:7:b", percent=20)
    expect(running).to_have_text(["user:7:b running 20", "user:7:a running 10"])
    expect(page.get_by_text("2 jobs, 2 running")).to_be_visible()
    served.report("user:7:a", percent=30)
    served.report("user:7:b", status="failed", error="disk full")
    expect(running).to_have_text(["user:7:a running 30"])
    expect(page.get_by_text("user:7:b: 1 failed")).to_be_visible()
    expect(page.get_by_text("2 jobs, 1 running")).to_be_visible()

    for _ in range(2):
        page.get_by_role("button", name="toggle").click()
    expect(running).to_have_text(["user:7:a running 30"])
    served.report("user:7:a", status="succeeded")
    expect(page.get_by_text("user:7:a: 1 succeeded")).to_be_visible()
    expect(running).to_have_count(0)
    assert {job for jobs in wanted_in(sent_commands) for job in jobs} == set()
    expect(page.get_by_role("status")).to_contain_text("0 violations")


def test_a_component_in_an_activity_keeps_its_state_while_hidden(
    page: Page, served: Served, show: Show
) -> None:
    served.report("video:42", percent=37)
    show("Hidden")
    bar = page.get_by_text("running 37%")
    expect(bar).to_be_visible()
    page.evaluate("statuses = []")
    hide = page.get_by_role("button", name="hide")
    hide.click()
    expect(bar).to_be_hidden()
    served.report("video:42", percent=50)
    hide.click()
    expect(page.get_by_text("running 50%")).to_be_visible()
    assert set(page.evaluate("statuses")) == {"running"}
    expect(page.get_by_role("status")).to_have_text("live, 0 violations, 0 reconnects")


def test_a_component_that_suspends_keeps_its_state(
    page: Page, served: Served, show: Show, sent_commands: list[dict[str, Any]]
) -> None:
    served.report("video:42", percent=37)
    show("Waiting")
    expect(page.get_by_text("running 37% loaded")).to_be_visible()
    earlier_commands = list(sent_commands)
    page.evaluate("statuses = []")
    page.get_by_role("button", name="wait").click()
    expect(page.get_by_text("waiting", exact=True)).to_be_visible()
    served.report("video:42", percent=50)
    page.evaluate("load()")
    expect(page.get_by_text("running 50% loaded again")).to_be_visible()
    assert set(page.evaluate("statuses")) == {"running"}
    assert sent_commands == earlier_commands


def test_a_custom_stop_button_works(page: Page, served: Served, show: Show) -> None:
    served.report("video:42", percent=10)
    show("Stop")
    stop = page.get_by_role("button", name="Stop")
    sent_commands = page.get_by_role("status")
    expect(sent_commands).to_have_text("none")
    expect(stop).to_have_count(0)
    served.report("video:42", accepts=["cancel"])
    stop.click()
    expect(sent_commands).to_have_text("open cancel")
    expect(stop).to_be_disabled()
    document = httpx.get(f"{served.url}/api/jobs/video:42", trust_env=False).json()
    request = document["state"]["request"]
    assert (request["verb"], request["args"]) == ("cancel", {"soft": True})
    served.report("video:42", ack=request["id"], refused="it is uploading")
    expect(sent_commands).to_have_text("refused cancel it is uploading")
    stop.click()
    expect(sent_commands).to_have_text("open cancel")
    served.report("video:42", status="cancelled")
    expect(sent_commands).to_have_text("none")
    expect(stop).to_have_count(0)
