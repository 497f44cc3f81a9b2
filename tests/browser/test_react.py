"""The React hooks under the real React: StrictMode, concurrent rendering, hydration, and the
drop-in for a hook that a project grew by itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from .bundled import bundle, node
from .chromium import SOON, Locator, Page, WebSocket, expect
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
def said(page: Page) -> list[dict[str, Any]]:
    """What the page has said to the gateway so far; fails if it opens a second socket."""
    said: list[dict[str, Any]] = []
    sockets: list[str] = []

    def opened(socket: WebSocket) -> None:
        sockets.append(socket.url)
        assert len(sockets) == 1, "a second socket"
        socket.on("framesent", lambda text: said.append(json.loads(text)))

    page.on("websocket", opened)
    return said


def wanted_in(said: list[dict[str, Any]]) -> list[set[str]]:
    """The wanted sets that were sent, in order."""
    return [set(command["jobs"]) for command in said if command["type"] == "sync_subscriptions"]


def soon(page: Page, true: Callable[[], bool]) -> None:
    """Wait until something outside of the page is true."""
    give_up_at = monotonic() + SOON / 1000
    while not true():
        assert monotonic() < give_up_at, "it never came true"
        page.wait_for_timeout(20)  # the page's events are only heard while Playwright waits


def bars_of(page: Page) -> Locator:
    return page.get_by_role("progressbar", name="video:42")


def test_strict_mode_mounts_twice_and_subscribes_once(
    page: Page, served: Served, show: Show, said: list[dict[str, Any]]
) -> None:
    served.report("video:42", percent=37, message="encoding")
    show("App")
    expect(bars_of(page)).to_have_text(["running 37% encoding"] * 2)
    expect(page.get_by_role("status")).to_have_text("live, 0 violations, 0 reconnects")
    assert wanted_in(said) == [{"a", "b", "video:42"}]
    served.report("video:42", percent=80)
    served.report("b", percent=5)
    expect(bars_of(page).first).to_have_attribute("aria-valuenow", "80")
    expect(page.get_by_text("both: null 5")).to_be_visible()

    page.get_by_role("button", name="toggle").click()
    expect(bars_of(page)).to_have_count(0)
    soon(page, lambda: wanted_in(said)[-1] == {"a", "b"})

    served.report("video:42", percent=81)
    page.get_by_role("button", name="toggle").click()
    expect(bars_of(page).first).to_have_attribute("aria-valuenow", "81")
    served.report("video:42", status="succeeded")
    expect(bars_of(page).first).to_contain_text("succeeded 100%")


def test_concurrent_rendering_never_shows_two_truths(
    page: Page, served: Served, show: Show
) -> None:
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


def test_what_a_server_rendered_is_taken_over(page: Page, served: Served, show: Show) -> None:
    script = bundle(HERE / "server.jsx", "--platform=node", "--format=cjs")
    html = node(script)
    assert "unknown" in html
    assert "connecting" in html

    served.report("video:42", percent=64)
    show("App", strict=False, html=html)  # React complains of what does not match
    expect(bars_of(page)).to_have_text(["running 64% "] * 2)


def test_a_hook_of_ones_own_is_replaced_by_changing_an_import(
    page: Page, served: Served, show: Show, said: list[dict[str, Any]]
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
    soon(page, lambda: wanted_in(said)[-1] == {"b"})
