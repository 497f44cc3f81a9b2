"""Two nodes are restarted one after the other during a job: the page shows no interruption."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.brokers.redis.server import Server, redis_server

from .chromium import Page, expect
from .locators import bar_of, connection_fact, connection_of, painted_frames, row_of
from .proxy import Proxy
from .served import Served

STATES = """
async () => {
  const { connect } = await import('./src/settings.js');
  globalThis.states = [];
  connect().observe(({ state }) => states.push(state));
}
"""
"""Records each state of the page's own connection."""


@pytest.fixture
def nodes() -> Iterator[tuple[Served, Served]]:
    redis = Server(redis_server())
    options = ("--redis", redis.url, "--shutdown-timeout", "10")
    with Served(*options) as one, Served(*options) as other:
        yield one, other
    redis.close()


def test_a_rolling_restart_is_invisible_to_pages(page: Page, nodes: tuple[Served, Served]) -> None:
    first_node, second_node = nodes
    percent = 10
    first_node.report("video:42", percent=percent)
    with Proxy(first_node.url, second_node.url) as balancer:
        page.goto(balancer.url)
        expect(row_of(page, "video:42")).to_contain_text("10%")
        expect(connection_of(page)).to_have_text("Live")
        page.evaluate(STATES)

        for leaving, staying in [(first_node, second_node), (second_node, first_node)]:
            leaving.leave()
            while not leaving.has_left:
                percent += 1
                staying.report("video:42", percent=percent)
                expect(bar_of(page, "video:42")).to_have_attribute("aria-valuenow", str(percent))
            leaving.kill()
            leaving.start()
        staying.report("video:42", percent=90)
        expect(row_of(page, "video:42")).to_contain_text("90%")

        assert set(page.evaluate("states")) == {"live"}
        assert "reconnecting…" not in {frame.time for frame in painted_frames(page, "video:42")}
        assert connection_fact(page, "Reconnects") == "2"
        assert connection_fact(page, "Violations") == "0"
        expect(page.get_by_role("dialog")).to_contain_text("Switched without interruption")
