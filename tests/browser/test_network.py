"""Faults of networks, machines and tabs: disconnects, black holes, sleep, hidden tabs, blocked
WebSockets."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .chromium import Complaints, Page, expect
from .locators import bar_of, connection_fact, connection_of, row_of
from .proxy import Proxy
from .served import Served
from .site import serve_site

NOTICED = 20_000
"""Milliseconds for a ping that is not answered (5 s), and the reconnect after it."""
CUT = "ERR_INTERNET_DISCONNECTED|ERR_CONNECTION|ERR_FAILED|ERR_TIMED_OUT|WebSocket connection to"

VISIBILITY = """
(state) => {
  Object.defineProperty(document, 'visibilityState', { value: state, configurable: true });
  document.dispatchEvent(new Event('visibilitychange'));
}
"""


@pytest.fixture
def proxy(served: Served) -> Iterator[Proxy]:
    with Proxy(served.url) as proxy:
        yield proxy


def test_a_page_recovers_after_being_offline(
    complaints: Complaints, page: Page, served: Served
) -> None:
    complaints.expect(CUT)
    served.report("video:42", percent=30)
    page.goto(served.url)
    expect(row_of(page, "video:42")).to_contain_text("30%")
    expect(connection_of(page)).to_have_text("Live")

    page.context.set_offline(True)
    expect(connection_of(page)).to_have_text("Offline", timeout=NOTICED)
    expect(row_of(page, "video:42")).to_contain_text("reconnecting…")
    served.report("video:42", percent=60)

    page.context.set_offline(False)
    expect(connection_of(page)).to_have_text("Live", timeout=NOTICED)
    expect(row_of(page, "video:42")).to_contain_text("60%")
    expect(row_of(page, "video:42")).not_to_contain_text("reconnecting…")
    assert connection_fact(page, "Violations") == "0"


def test_a_page_is_current_seconds_after_the_laptop_wakes(
    complaints: Complaints, page: Page, served: Served, proxy: Proxy
) -> None:
    complaints.expect(CUT)
    page.clock.install()
    served.report("video:42", percent=30)
    page.goto(proxy.url)
    expect(row_of(page, "video:42")).to_contain_text("30%")
    expect(connection_of(page)).to_have_text("Live")

    proxy.swallow()  # a sleeping machine is not notified that its connections have ended
    served.report("video:42", percent=80, message="while you slept")
    proxy.heal()
    page.clock.fast_forward("03:00:00")
    expect(row_of(page, "video:42")).to_contain_text("while you slept", timeout=NOTICED)
    expect(row_of(page, "video:42")).to_contain_text("80%")
    expect(connection_of(page)).to_have_text("Live")
    served.report("video:42", percent=81)
    expect(row_of(page, "video:42")).to_contain_text("81%")
    # The page's list may have shown all that before the connection is noticed to be dead.
    deadline = time.monotonic() + NOTICED / 1000
    while connection_fact(page, "Reconnects") != "1":
        assert time.monotonic() < deadline
        page.wait_for_timeout(100)
    assert connection_fact(page, "Violations") == "0"


def test_a_tab_hidden_for_minutes_is_live_when_it_is_shown(page: Page, served: Served) -> None:
    page.clock.install()
    served.report("video:42", percent=10)
    page.goto(served.url)
    expect(connection_of(page)).to_have_text("Live")

    page.evaluate(VISIBILITY, "hidden")
    for minute in range(1, 11):
        page.clock.fast_forward("01:00")  # a hidden tab's timers fire once a minute
        served.report("video:42", percent=10 + minute)
        expect(bar_of(page, "video:42")).to_have_attribute("aria-valuenow", str(10 + minute))
    page.evaluate(VISIBILITY, "visible")
    expect(row_of(page, "video:42")).to_contain_text("20%")
    expect(connection_of(page)).to_have_text("Live")
    assert connection_fact(page, "Reconnects") == "0"
    assert connection_fact(page, "Violations") == "0"


def test_a_hidden_tab_does_not_reconnect_until_it_is_shown(
    complaints: Complaints, page: Page, served: Served
) -> None:
    complaints.expect(CUT)
    page.clock.install()
    served.report("video:42", percent=10)
    page.goto(served.url)
    expect(connection_of(page)).to_have_text("Live")
    page.evaluate(VISIBILITY, "hidden")
    for _ in range(6):
        page.clock.fast_forward("01:00")

    served.kill()
    expect(connection_of(page)).to_have_text("Offline")
    served.start()
    served.report("video:42", percent=50)
    dials: list[str] = []
    page.on("websocket", lambda socket: dials.append(socket.url))
    for _ in range(6):
        page.clock.fast_forward("10:00")
    assert dials == []
    expect(connection_of(page)).to_have_text("Offline")

    page.evaluate(VISIBILITY, "visible")
    expect(connection_of(page)).to_have_text("Live")
    expect(row_of(page, "video:42")).to_contain_text("50%")


def test_behind_a_proxy_that_refuses_upgrades_it_uses_sse(
    complaints: Complaints, page: Page, served: Served, proxy: Proxy
) -> None:
    complaints.expect("WebSocket connection to")
    page.clock.install()
    proxy.refuse_upgrades = True
    served.report("video:42", percent=30)
    page.goto(proxy.url)
    expect(connection_of(page)).to_have_text("Live")
    expect(row_of(page, "video:42")).to_contain_text("30%")
    assert connection_fact(page, "Transport") == "Server-Sent Events"
    for percent in range(31, 36):
        served.report("video:42", percent=percent)
        expect(bar_of(page, "video:42")).to_have_attribute("aria-valuenow", str(percent))
    served.report("video:43", percent=5)
    expect(row_of(page, "video:43")).to_contain_text("5%")

    proxy.refuse_upgrades = False
    page.clock.fast_forward("00:20")
    expect(page.get_by_role("dialog")).to_contain_text("TransportWebSocket")
    expect(connection_of(page)).to_have_text("Live")
    served.report("video:42", percent=90)
    expect(row_of(page, "video:42")).to_contain_text("90%")
    served.report("video:42", status="succeeded")
    expect(row_of(page, "video:42")).to_contain_text("Succeeded")
    assert connection_fact(page, "Violations") == "0"


def test_behind_a_proxy_that_buffers_streams_it_polls(
    complaints: Complaints, page: Page, served: Served, proxy: Proxy
) -> None:
    complaints.expect("WebSocket connection to|ERR_|Failed to load resource")
    proxy.refuse_upgrades = proxy.hold_streams = True
    served.report("video:42", percent=30)
    page.goto(proxy.url)
    expect(connection_of(page)).to_have_text("Live", timeout=NOTICED)
    assert connection_fact(page, "Transport") == "long polling"
    served.report("video:42", percent=55, message="over long polling")
    expect(row_of(page, "video:42")).to_contain_text("over long polling")
    expect(row_of(page, "video:42")).to_contain_text("55%")
    served.report("video:42", status="failed", error="disk full")
    expect(row_of(page, "video:42")).to_contain_text("disk full")


CLOCK = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<link rel="icon" href="data:,">
<title>A shop</title>
<script>
  const now = Date.now.bind(Date);
  globalThis.ahead = {ahead};
  Date.now = () => now() + ahead;
</script>
<script type="module" src="{gateway}/client.js"></script>
<job-progress job="video:42"></job-progress>
</html>
"""
HOUR = 3_600_000


@pytest.mark.parametrize(("ahead", "jump"), [(0, HOUR), (0, -HOUR), (HOUR, -HOUR)])
def test_setting_the_clock_changes_no_times(
    complaints: Complaints, page: Page, served: Served, proxy: Proxy, ahead: int, jump: int
) -> None:
    complaints.expect(CUT)
    set_clock = f"ahead += {jump}"
    bar = page.locator("job-progress")
    remaining_time = re.compile(r"(\d min (\d+ s )?|\d+ s )left")
    done = 100
    served.report("video:42", done=done, total=1_000)
    with serve_site(CLOCK.format(gateway=proxy.url, ahead=ahead)) as site:
        page.goto(site)
        expect(bar).to_contain_text("10%")
        deadline = time.monotonic() + NOTICED / 1000
        while (
            remaining_time.search(page.locator(".time").inner_text()) is None
        ):  # until it has an estimate
            assert time.monotonic() < deadline
            done += 1
            served.report("video:42", done=done)
            page.wait_for_timeout(100)
        page.evaluate(set_clock)
        served.report("video:42", message="the clock was set")
        expect(bar).to_contain_text("the clock was set")
        expect(bar).to_contain_text(remaining_time)

        proxy.instead = {"127.0.0.1": b""}
        proxy.cut()
        page.evaluate(set_clock)
        expect(bar).to_contain_text("reconnecting…")
        page.evaluate(VISIBILITY, "hidden")
        page.evaluate(set_clock)
        page.evaluate(VISIBILITY, "visible")
        expect(bar).to_contain_text("reconnecting…")
        proxy.instead = {}
        served.report("video:42", message="it was set again")
        expect(bar).to_contain_text("it was set again", timeout=NOTICED)
        expect(bar).to_contain_text(remaining_time)
        expect(page.locator("job-progress[stale]")).to_have_count(0)


IDS = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<link rel="icon" href="data:,">
<title>A shop</title>
<script type="module" src="{gateway}/client.js"></script>
<job-progress job="a/../b"></job-progress>
<job-progress job="c/d"></job-progress>
<job-progress job="e/events"></job-progress>
</html>
"""


@pytest.mark.parametrize("transport", ["websocket", "sse", "polling"])
def test_a_job_is_asked_for_by_its_whole_id(
    complaints: Complaints, page: Page, served: Served, proxy: Proxy, transport: str
) -> None:
    complaints.expect("WebSocket connection to|ERR_|Failed to load resource")
    proxy.refuse_upgrades = transport != "websocket"
    proxy.hold_streams = transport == "polling"
    for job, percent in (("b", 10), ("c/d", 20), ("e", 30), ("e/events", 40)):
        served.report(job.replace("/events", "%2Fevents"), percent=percent)
    with serve_site(IDS.format(gateway=proxy.url)) as site:
        page.goto(site)
        expect(page.locator("job-progress[job='c/d']")).to_contain_text("20%", timeout=NOTICED)
        expect(page.locator("job-progress[job='e/events']")).to_contain_text("40%")
        expect(page.locator("job-progress[job='a/../b'][look='denied']")).to_be_visible()


def test_a_gateway_with_a_small_max_frame_is_sent_small_messages(
    page: Page, tmp_path: Path
) -> None:
    settings = tmp_path / "gateway.toml"
    settings.write_text("[limits]\nmax_frame = 1_024\n")
    jobs = [f"batch:{number:03}/{'x' * 40}" for number in range(100)]
    with Served("--config", str(settings)) as served:
        head = f'<script type="module" src="{served.url}/client.js"></script>'
        bars = "".join(f'<job-progress job="{job}"></job-progress>' for job in jobs)
        served.report(jobs[-1].replace("/", "%2F"), percent=37)
        with serve_site(f"<!doctype html>{head}{bars}") as site:
            page.goto(site)
            expect(page.locator("job-progress").last).to_contain_text("37%", timeout=NOTICED)
            expect(page.locator("job-progress[look='unknown']")).to_have_count(len(jobs) - 1)
