"""The page of a gateway with Redis, during an outage of Redis."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.brokers.redis.server import Server, redis_server
from tests.cli.processes import Running

from .chromium import Complaints, Page, expect
from .locators import bar_of, connection_fact, connection_of, row_of
from .served import Served, worker
from .test_requests import WORKER as STOPPABLE

NOTICED = 30_000
"""Milliseconds until the gateway and the worker have detected that Redis is unavailable, or
available again."""


@pytest.fixture
def redis() -> Iterator[Server]:
    server = Server(redis_server())
    yield server
    server.close()


@pytest.fixture
def served(redis: Server) -> Iterator[Served]:
    with Served("--redis", redis.url) as served:
        yield served


def test_a_page_recovers_from_a_redis_that_restarts_empty(
    complaints: Complaints, page: Page, redis: Server, served: Served
) -> None:
    complaints.expect("503")  # the list of jobs, meanwhile
    page.goto(served.url)
    row = row_of(page, "video:42")
    with worker(served.url, done=40) as _:
        expect(row).to_contain_text("40 / 100 frames")
        expect(connection_of(page)).to_have_text("Live")

        redis.kill()
        expect(connection_of(page)).to_have_text("Stale", timeout=NOTICED)
        expect(row).to_contain_text("may be out of date")
        expect(row).to_contain_text("40%")

        redis.start()
        expect(connection_of(page)).to_have_text("Live", timeout=NOTICED)
        expect(row).not_to_contain_text("may be out of date")
        expect(bar_of(page, "video:42")).to_have_attribute("aria-valuenow", "40", timeout=NOTICED)
        served.report("video:42", done=60)
        expect(row).to_contain_text("60 / 100 frames")
    assert connection_fact(page, "Violations") == "0"


def test_a_restarted_gateway_with_redis_keeps_the_job(
    complaints: Complaints, page: Page, served: Served
) -> None:
    complaints.expect("ERR_CONNECTION|WebSocket connection to")
    served.report("video:42", percent=40)
    served.report("done:1", status="succeeded")
    page.goto(served.url)
    expect(row_of(page, "video:42")).to_contain_text("40%")
    served.kill()
    expect(connection_of(page)).to_have_text("Offline")
    served.start()
    served.report("video:42", percent=55)
    expect(connection_of(page)).to_have_text("Live", timeout=NOTICED)
    expect(row_of(page, "video:42")).to_contain_text("55%")
    expect(row_of(page, "done:1")).to_contain_text("Succeeded")
    assert connection_fact(page, "Violations") == "0"


def test_a_stop_button_pressed_during_an_outage_says_so_and_works_after_it(
    complaints: Complaints, page: Page, redis: Server, served: Served
) -> None:
    complaints.expect("503")  # the answer to the request, and the list of jobs
    stop = page.get_by_role("button", name="Stop train:7")
    with Running(sys.executable, "-c", STOPPABLE, served.url) as stoppable:
        stoppable.until("began")
        page.goto(served.url)
        row = row_of(page, "train:7")
        expect(stop).to_be_enabled()
        redis.kill()
        expect(connection_of(page)).to_have_text("Stale", timeout=NOTICED)
        stop.click()
        expect(row.locator("[part=request]")).to_have_text("Not possible at the moment. Try again.")
        expect(row.get_by_text("stopping…")).to_have_count(0)
        expect(stop).to_be_enabled()

        redis.start()
        expect(connection_of(page)).to_have_text("Live", timeout=NOTICED)
        assert stoppable.process.poll() is None  # nobody has received that request
        stop.click(timeout=NOTICED)
        expect(row).to_contain_text("Cancelled", timeout=NOTICED)
        assert stoppable.process.wait(30) is not None
    expect(stop).to_have_count(0)
