"""The screenshots in the README: `python -m tests.browser.picture`.

Writes `docs/page.png`, `docs/page-detail.png`, and the dark versions of both: the real page of a
real gateway, whose broker replays the last hour in a moment.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

import trio

from gateway import Gateway, MemoryBroker, serve_gateway

from .chromium import expect, launched
from .locators import connection_of, row_of

DOCS = Path(__file__).parents[2] / "docs"
SIZE = (1280, 884)

STAND_STILL = """
for (const animation of document.getAnimations()) {
  animation.pause();
  animation.currentTime = 500;
}
"""

Step = tuple[float, str, dict[str, Any]]
"""Seconds ago, job, update."""


def _work(
    job: str,
    *,
    began: float,
    ended: float = 0,
    left_off: float = 0,
    reached: float = 1,
    total: int,
    **said: Any,
) -> Iterator[Step]:
    """Yields fifty reports at regular intervals, each with `said`."""
    for step in range(51):
        done = round(total * (left_off + (reached - left_off) * step / 50))
        yield began - (began - ended) * step / 50, job, {"done": done, "total": total, **said}


def _group(job: str, *, began: float, children: int, ended: int, **said: Any) -> Iterator[Step]:
    """Yields reports of a group of which some children have ended, one of them failed, and two
    run."""
    yield began, job, {"children": children, "accepts": ["cancel"], **said}
    for number in range(1, ended + 1):
        failed = {"status": "failed", "error": "ValueError: no moov atom in the file"}
        end = failed if number == 77 else {"status": "succeeded"}
        yield began - (began - 20) * number / ended, f"{job}/tape-{number}", end
    for number, reached in ((ended + 1, 0.62), (ended + 2, 0.27)):
        yield from _work(f"{job}/tape-{number}", began=18 - number % 2, reached=reached, total=9000)


def _story() -> Iterator[Step]:
    """Yields reports of jobs in every state that a job may be in."""
    yield from _work("backup:nightly", began=3100, ended=2790, total=48_211, unit="files")
    yield 2789, "backup:nightly", {"status": "succeeded", "message": "18 changed since yesterday"}
    yield from _work("render:teaser", began=1500, ended=1380, reached=0.22, total=900)
    yield 1379, "render:teaser", {"status": "cancelled", "message": "by ada@example.org"}
    yield from _work("crawl:docs", began=1200, ended=415, reached=0.58, total=2400, unit="pages")
    yield from _work("report:2026-06", began=760, ended=608, total=31, unit="tables")
    yield 607, "report:2026-06", {"status": "succeeded"}
    error = "ValueError: row 8001 of customers.csv has 3 columns, expected 5"
    yield from _work(
        "import:customers", began=170, ended=128, reached=0.64, total=12_500, unit="rows"
    )
    yield 127, "import:customers", {"status": "failed", "error": error}

    epoch: dict[str, Any] = {
        "phase": "epoch 9 of 11",
        "message": "loss 0.173",
        "accepts": ["cancel"],
    }
    yield from _work(
        "train:resnet-50", began=1830, reached=0.82, total=11_000, unit="steps", **epoch
    )
    stock: dict[str, Any] = {"message": "waiting for erp.example.org", "unit": "articles"}
    yield from _work("sync:warehouse", began=421, ended=300, reached=0.4, total=18_400, **stock)
    yield from _work(
        "sync:warehouse", began=210, ended=75, left_off=0.4, reached=0.71, total=18_400, **stock
    )
    encode: dict[str, Any] = {
        "phase": "encode",
        "message": "second pass",
        "accepts": ["cancel", "pause"],
    }
    yield from _work("video:42", began=64, reached=0.37, total=1200, unit="frames", **encode)
    yield 21, "video:43", {"status": "queued", "message": "behind video:42"}
    yield from _group("batch:1", began=310, children=200, ended=82, message="the archive of 1998")


async def _live_through(gateway: Gateway, broker: MemoryBroker, clock: list[float]) -> None:
    now = clock[0]
    for ago, job, update in sorted(_story(), key=lambda step: -step[0]):
        clock[0] = now - ago
        await broker.expire_leases()
        await gateway.publish(job, **update)
    await broker.expire_leases()
    await broker.expire_leases()


def _take(url: str) -> None:
    with launched() as browser:
        schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
        for scheme in schemes:
            page = browser.new_page(
                viewport={"width": SIZE[0], "height": SIZE[1]}, color_scheme=scheme
            )
            page.goto(url)
            expect(connection_of(page)).to_have_text("Live")
            expect(row_of(page, "video:42")).to_contain_text("37%")
            expect(page.get_by_role("button", name="Stop video:42")).to_be_visible()
            expect(row_of(page, "batch:1")).to_contain_text("82 / 200 · 1 failed")
            expect(page.get_by_role("button", name="Children of batch:1")).to_be_visible()
            page.evaluate(STAND_STILL)
            suffix = "" if scheme == "light" else "-dark"
            page.screenshot(path=DOCS / f"page{suffix}.png")
            page.get_by_role("link", name="Details of sync:warehouse").click()
            expect(page.get_by_role("dialog", name="sync:warehouse")).to_contain_text(
                "Since its start"
            )
            page.evaluate(STAND_STILL)
            page.screenshot(path=DOCS / f"page-detail{suffix}.png")
            page.close()


async def _main() -> None:
    clock = [time.time()]
    broker = MemoryBroker(clock=lambda: clock[0], monotonic=lambda: clock[0])
    async with trio.open_nursery() as nursery:
        gateway: Gateway = await nursery.start(partial(serve_gateway, "127.0.0.1:0", broker))
        await _live_through(gateway, broker, clock)
        await trio.to_thread.run_sync(_take, gateway.url)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(_main)
