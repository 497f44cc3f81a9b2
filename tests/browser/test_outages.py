"""The page while a worker or the gateway fails and recovers."""

from __future__ import annotations

import signal

from .chromium import Complaints, Page, expect
from .locators import bar_of, connection_of, painted_frames, row_of
from .served import Served, worker

LEASES = 20_000
"""Milliseconds within which ten leases of a second have expired, and the job is lost."""
LUCKY = "Math.random = () => 0.1"
"""Makes the random pause before a reconnect some five seconds long, or as given."""
DIALS = """
async () => {
  const { connect } = await import('./src/settings.js');
  globalThis.offline = [];
  connect().observe(({ state, retryAt }) => {
    if (state === 'offline') offline.push(retryAt);
    if (state === 'connecting') globalThis.dialled = performance.now();
  });
}
"""
"""Records when the page's own connection last connected, and, at each failure, when it planned to
reconnect."""
REDIALLED = 20_000
"""Milliseconds within which the page has reconnected after an outage."""


def test_a_silent_worker_is_shown_as_stalled_lost_and_running_again(
    page: Page, served: Served
) -> None:
    page.goto(served.url)
    row = row_of(page, "video:42")
    with worker(served.url, done=40) as first_worker:
        expect(row).to_contain_text("40 / 100 frames")
        expect(row).to_contain_text("40%")

        first_worker.tell(signal.SIGSTOP)
        expect(row).to_contain_text("Stalled at 40%")
        expect(row).to_contain_text("no update for")
        first_worker.tell(signal.SIGCONT)
        expect(row).not_to_contain_text("Stalled")
        expect(row).to_contain_text("40%")

        first_worker.tell(signal.SIGKILL)
        expect(row).to_contain_text("Stalled at 40%")
        expect(row).to_contain_text("Lost at 40%", timeout=LEASES)
        expect(row.get_by_role("status")).to_contain_text("Lost, 40%")
        expect(page.get_by_role("region", name="Earlier").get_by_role("listitem")).to_have_count(1)

    with worker(served.url, done=15):
        expect(row).to_contain_text("attempt 2")
        expect(row).to_contain_text("15%")
        expect(row).not_to_contain_text("Lost")
        expect(page.get_by_role("region", name="Active").get_by_role("listitem")).to_have_count(1)


def test_the_page_recovers_from_a_gateway_that_restarts_empty(
    complaints: Complaints, page: Page, served: Served
) -> None:
    complaints.expect("ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET|WebSocket connection to")
    page.add_init_script(LUCKY)
    served.report("video:42", percent=70)
    served.report("done:1", status="succeeded", message="all is well")
    page.goto(served.url)
    row = row_of(page, "video:42")
    expect(row).to_contain_text("70%")
    expect(connection_of(page)).to_have_text("Live")

    served.kill()
    expect(connection_of(page)).to_have_text("Offline")
    expect(page.get_by_role("banner").get_by_role("status")).to_have_text("Not connected")
    expect(row).to_contain_text("reconnecting…")
    expect(row).to_contain_text("70%")
    expect(bar_of(page, "video:42")).to_have_attribute(
        "aria-valuetext", "Running, 70%, reconnecting…"
    )
    # A final state is not stale, whatever is unavailable.
    expect(row_of(page, "done:1")).to_contain_text("Succeeded")
    expect(row_of(page, "done:1")).not_to_contain_text("reconnecting…")
    # During repeated failed attempts to connect it is never shown as live.
    for _ in range(2):
        page.wait_for_event("websocket", timeout=REDIALLED)
    away = [frame.time for frame in painted_frames(page, "video:42")]
    assert set(away[away.index("reconnecting…") :]) == {"reconnecting…"}

    served.start()
    served.report("video:42", percent=12)
    expect(connection_of(page)).to_have_text("Live", timeout=REDIALLED)
    expect(page.get_by_role("banner").get_by_role("status")).to_have_text("Connected")
    expect(row).to_contain_text("12%")
    expect(row).not_to_contain_text("reconnecting…")
    expect(row_of(page, "done:1")).to_have_count(0)
    served.report("video:42", percent=13)
    expect(row).to_contain_text("13%")


def test_the_page_reconnects_as_soon_as_the_gateway_answers(
    complaints: Complaints, page: Page, served: Served
) -> None:
    complaints.expect("ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET|WebSocket connection to")
    page.add_init_script("Math.random = () => 0.999")
    page.clock.install()
    page.goto(served.url)
    expect(connection_of(page)).to_have_text("Live")
    page.evaluate(DIALS)
    served.kill()
    expect(connection_of(page)).to_have_text("Offline")
    for failures in range(2, 6):
        page.clock.fast_forward("00:20")
        page.wait_for_function("(failures) => offline.length === failures", arg=failures)

    served.start()
    expect(connection_of(page)).to_have_text("Live")
    # The list is requested every two seconds, so its success causes the reconnect earlier.
    assert page.evaluate("dialled") < page.evaluate("offline.at(-1)")
