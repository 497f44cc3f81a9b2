"""The screenshot of a group in docs/groups.md: `python -m tests.browser.picture_group`."""

from __future__ import annotations

import time
from functools import partial
from typing import Literal

import trio

from gateway import Gateway, MemoryBroker, serve_gateway

from .chromium import expect, launched
from .locators import row_of
from .picture import DOCS, STAND_STILL


async def _live_through(gateway: Gateway, clock: list[float]) -> None:
    now = clock[0]
    clock[0] = now - 310
    await gateway.publish("batch:1", children=1000, message="the archive of 1998", lease=60)
    for number in range(1, 413):
        clock[0] = now - 305 + number * 0.7
        failed = number in (77, 201, 390)
        error = "ValueError: no moov atom in the file"
        await gateway.publish(
            f"batch:1/tape-{number}",
            status="failed" if failed else "succeeded",
            error=error if failed else None,
        )
    for number in range(413, 417):
        clock[0] = now - 12 + number % 4
        await gateway.publish(f"batch:1/tape-{number}", percent=0)
    for number in range(413, 417):
        clock[0] = now - 4 + number % 4
        await gateway.publish(f"batch:1/tape-{number}", done=number * 7 % 90, total=100)
    clock[0] = now


def _take(url: str) -> None:
    with launched() as browser:
        schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
        for scheme in schemes:
            page = browser.new_page(viewport={"width": 1280, "height": 830}, color_scheme=scheme)
            page.goto(url)
            row_of(page, "batch:1").get_by_role("button", name="Children of batch:1").click()
            children = page.get_by_role("group", name="Children of batch:1")
            expect(children.get_by_role("progressbar").nth(6)).to_be_visible()
            page.evaluate(STAND_STILL)
            suffix = "" if scheme == "light" else "-dark"
            page.screenshot(path=DOCS / f"group{suffix}.png")
            page.close()


async def _main() -> None:
    clock = [time.time()]
    broker = MemoryBroker(clock=lambda: clock[0], monotonic=lambda: clock[0])
    async with trio.open_nursery() as nursery:
        gateway: Gateway = await nursery.start(partial(serve_gateway, "127.0.0.1:0", broker))
        await _live_through(gateway, clock)
        await trio.to_thread.run_sync(_take, gateway.url)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(_main)
