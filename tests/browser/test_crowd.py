"""Many jobs at once: two hundred bars in a hurry, and a list of thousands."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from statistics import median

import pytest

from tests.cli.processes import Running

from .chromium import Browser, Page, expect
from .sight import connection_of
from .site import serve_site

BARS = 200
HERTZ = 20
SECONDS = 4
FRAME = 1000 / 60
OURS = 24
"""Milliseconds of script, style and layout for a frame: 4 on a machine at rest, where a frame
moves 75 bars, 14 where others use its cores and a frame moves all."""
LONG_TASK = 50
"""Milliseconds after which a person notices (W3C, Long Tasks API)."""
LOADED = 40_000
"""Milliseconds for a list of thousands, on a machine that is busy."""
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<link rel="icon" href="data:,">
<title>A control room</title>
<style>main {{ display: grid; grid-template-columns: repeat(10, 1fr); gap: 4px }}</style>
<script type="module" src="{gateway}/client.js"></script>
<main>{bars}</main>
</html>
"""
WATCH = """
(seconds) => new Promise((done) => {
  const frames = [];
  const slow = [];
  const observer = new PerformanceObserver((list) => {
    for (const { scripts } of list.getEntries()) slow.push(...scripts);
  });
  observer.observe({ type: 'long-animation-frame' });
  const roots = [...document.querySelectorAll('job-progress')].map(({ shadowRoot }) => shadowRoot);
  const bars = roots.map((root) => root.querySelector('.bar'));
  const amounts = roots.map((root) => root.querySelector('.amount').firstChild);
  const count = (read) => {
    let before = read();
    return () => {
      const after = read();
      const changed = after.filter((value, i) => value !== before[i]).length;
      before = after;
      return changed;
    };
  };
  const moved = count(() => bars.map(({ style }) => style.width));
  const reworded = count(() => amounts.map(({ nodeValue }) => nodeValue));
  let steps = 0;
  let words = 0;
  requestAnimationFrame(function frame(now) {
    frames.push(now);
    steps += moved();
    words += reworded();
    if (now - frames[0] < seconds * 1000) return requestAnimationFrame(frame);
    const longest = Math.max(0, ...slow.map(({ duration }) => duration));
    const forced = slow.reduce((sum, script) => sum + script.forcedStyleAndLayoutDuration, 0);
    done({ frames, steps, words, longest, forced });
  });
})
"""


class Work:
    """What the page's own thread did meanwhile, in its own time and not the wall's."""

    def __init__(self, page: Page) -> None:
        self._session = page.context.new_cdp_session(page)
        self._session.send("Performance.enable", {"timeDomain": "threadTicks"})
        self._before = self._metrics()
        self._after = self._before

    def end(self) -> None:
        self._after = self._metrics()

    def of(self, name: str) -> float:
        return self._after[name] - self._before[name]

    def _metrics(self) -> dict[str, float]:
        metrics = self._session.send("Performance.getMetrics")["metrics"]
        return {metric["name"]: metric["value"] for metric in metrics}


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """One without the recorder, which looks at every bar in every frame."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    yield page
    page.close()


@contextmanager
def crowd(jobs: int, hertz: float, ended: int = 0) -> Iterator[str]:
    command = (sys.executable, "-m", "tests.browser.crowd", str(jobs), str(hertz), str(ended))
    with Running(*command) as running:
        yield running.until("\n").strip().rstrip("/")


def test_two_hundred_bars_at_twenty_updates_a_second_are_smooth(
    page: Page, record_property: Callable[[str, object], None]
) -> None:
    bars = "".join(f'<job-progress job="busy:{n:04}"></job-progress>' for n in range(BARS))
    with crowd(BARS, HERTZ) as gateway, serve_site(PAGE.format(gateway=gateway, bars=bars)) as site:
        page.goto(site)
        expect(page.get_by_text("rows").last).to_be_visible()
        worked = Work(page)
        seen = page.evaluate(WATCH, SECONDS)
        worked.end()

    gaps = [after - before for before, after in pairwise(seen["frames"])]
    frames = len(gaps)
    ours = {
        name: 1000 * worked.of(f"{metric}Duration") / frames
        for name, metric in (("script", "Script"), ("style", "RecalcStyle"), ("layout", "Layout"))
    }
    figures = {
        "frames a second": frames / SECONDS,
        "dropped": sum(round(gap / FRAME) - 1 for gap in gaps),
        "median ms": median(gaps),
        "steps shown a second": seen["steps"] / SECONDS,
        "words changed a second": seen["words"] / SECONDS,
        "work ms a frame": 1000 * worked.of("TaskDuration") / frames,
        **{f"of it {name}": ms for name, ms in ours.items()},
        "layouts a frame": worked.of("LayoutCount") / frames,
        "style passes a frame": worked.of("RecalcStyleCount") / frames,
        "longest script ms": seen["longest"],
    }
    for name, figure in figures.items():
        record_property(name, round(figure, 1))
    print({name: round(figure, 1) for name, figure in figures.items()})  # noqa: T201 - a report for people
    # How many frames there are is the machine's matter: without a graphics card, and with
    # the gateway and all workers beside it. What the page does for one is not.
    assert sum(ours.values()) < OURS
    assert figures["layouts a frame"] < 1.5
    assert figures["style passes a frame"] < 1.5
    assert figures["longest script ms"] < LONG_TASK
    assert seen["forced"] == 0  # milliseconds of layout in the midst of a script
    assert figures["steps shown a second"] > BARS * 4
    assert BARS < figures["words changed a second"] < BARS * 7  # five, and the second


def test_thousands_of_jobs_are_listed_searched_and_scrolled_without_lag(page: Page) -> None:
    with crowd(20, 2, ended=4_000) as gateway:
        page.goto(gateway)
        expect(page.get_by_role("radio", name="Succeeded")).to_be_attached()
        expect(page.locator(".chips").get_by_text("Succeeded 3600")).to_be_visible(timeout=LOADED)
        expect(connection_of(page)).to_have_text("Live")
        assert page.locator("job-progress").count() < 60  # those in sight, and some around

        rows = page.locator("li.row")  # by role they would take a while to count
        page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
        expect(rows.last).to_be_in_viewport(timeout=LOADED)
        expect(rows.last.get_by_role("progressbar")).to_be_visible(timeout=LOADED)
        assert page.locator("job-progress").count() < 60
        page.evaluate("scrollTo(0, 0)")
        expect(rows.first.get_by_role("progressbar")).to_be_visible(timeout=LOADED)

        page.get_by_label("Search jobs").fill("no disk")
        expect(page.get_by_text("400 jobs match")).to_be_attached(timeout=LOADED)
        expect(rows).to_have_count(400, timeout=LOADED)
        page.get_by_label("Search jobs").fill("")
        prefix = page.get_by_label("Prefix")
        prefix.select_option("busy:")
        expect(rows).to_have_count(20, timeout=LOADED)
        prefix.select_option("")
        expect(rows).to_have_count(4_020, timeout=LOADED)
