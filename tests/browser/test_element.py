"""The element in an application's page: slots, screen readers, forced colours, print."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from .chromium import Locator, Page, expect
from .served import Served
from .site import serve_site

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<link rel="icon" href="data:,">
<title>A shop</title>
<script type="module" src="{gateway}/client.js"></script>
<job-progress job="video:42" label="Your video">
  <time slot="aside">since noon</time>
  <button slot="actions">Download</button>
</job-progress>
</html>
"""
BACKGROUND = "(node) => getComputedStyle(node).backgroundColor"


@pytest.fixture
def bar(page: Page, served: Served) -> Iterator[Locator]:
    """The element's bar, of a job at 37 %."""
    with ExitStack() as stack:
        served.report("video:42", percent=37, message="encoding")
        page.clock.install()
        page.goto(stack.enter_context(serve_site(PAGE.format(gateway=served.url))))
        bar = page.get_by_role("progressbar", name="Your video")
        expect(bar).to_have_attribute("aria-valuenow", "37")
        yield bar


def test_slotted_content_stands_beside_the_figure_and_below_the_bar(
    page: Page, bar: Locator
) -> None:
    figure = page.get_by_text("37%", exact=True).bounding_box()
    aside = page.get_by_text("since noon").bounding_box()
    track = bar.bounding_box()
    button = page.get_by_role("button", name="Download").bounding_box()
    assert figure
    assert aside
    assert track
    assert button
    assert aside["x"] >= figure["x"] + figure["width"]
    assert aside["y"] + aside["height"] <= track["y"]
    assert button["y"] >= track["y"] + track["height"]


def test_a_screen_reader_is_given_at_most_one_value_a_second(
    page: Page, served: Served, bar: Locator
) -> None:
    client = f"{served.url}/client.js"

    def report(percent: int) -> None:
        """Reports, and waits until the page knows it. The clock of the page stands still
        meanwhile."""
        served.report("video:42", percent=percent)
        known = f"import('{client}').then((it) => it.connect().peek('video:42').state.percent)"
        while page.evaluate(known) != percent:
            pass

    page.clock.pause_at(page.evaluate("Date.now() + 5000"))
    spoken = []
    for percent in range(38, 46):
        report(percent)
        page.clock.run_for(100)
        spoken.append(bar.get_attribute("aria-valuenow"))
    assert page.locator("job-progress .bar").evaluate("(node) => node.style.width") == "45%"
    assert len(set(spoken)) <= 2
    page.clock.run_for(1500)
    expect(bar).to_have_attribute("aria-valuenow", "45")
    # On a slow machine the gateway has observed the job for long enough to estimate its end.
    expect(bar).to_have_attribute("aria-valuetext", re.compile("^Running, 45%, encoding"))


def test_from_right_to_left_everything_is_mirrored_but_text(
    page: Page, served: Served, bar: Locator
) -> None:
    message = "frame 444 of a long message that says what is done just now"
    served.report("video:42", phase="encode", message=message)
    served.report("scan:1", message="no percentage is known")
    page.set_viewport_size({"width": 500, "height": 600})
    page.evaluate(
        """() => {
          document.dir = 'rtl';
          const other = document.createElement('job-progress');
          other.setAttribute('job', 'scan:1');
          document.body.append(other);
        }"""
    )
    expect(page.get_by_text(message)).to_be_visible()
    track = bar.bounding_box()
    aside = page.get_by_text("since noon").bounding_box()
    figure = page.get_by_text("37%", exact=True).bounding_box()
    assert track
    assert aside
    assert figure
    assert abs(aside["x"] - track["x"]) < 1
    assert aside["x"] + aside["width"] <= figure["x"]
    beginning = page.get_by_text(message).evaluate(
        """(node) => {
          const range = document.createRange();
          range.setStart(node.firstChild, 0);
          range.setEnd(node.firstChild, 5);
          const [text, box] = [range.getBoundingClientRect(), node.getBoundingClientRect()];
          return text.left >= box.left - 1 && text.right <= box.right + 1;
        }"""
    )
    assert beginning, "the beginning of the message is cut off"
    wandering = page.locator("job-progress").last.locator(".indeterminate .bar")
    side = "(node) => Math.round(node.offsetLeft - node.parentElement.offsetLeft)"
    assert wandering.evaluate(side) == 0, "it wanders out of its track"


AFTER = """
(node, [first, second]) => {
  const texts = document.createTreeWalker(node, NodeFilter.SHOW_TEXT);
  const left = (text) => {
    for (texts.currentNode = node; texts.nextNode(); ) {
      const at = texts.currentNode.nodeValue.indexOf(text);
      if (at < 0) continue;
      const range = document.createRange();
      range.setStart(texts.currentNode, at);
      range.setEnd(texts.currentNode, at + text.length);
      return range.getBoundingClientRect().left;
    }
  };
  return left(second) > left(first);
}
"""
"""Whether the second text stands at the right of the first."""

HEBREW = """
import { configure } from '/client.js';
configure({ words: {
  took: 'נמשך {time}', at: '{word} ב-{percent}', someFailed: '{n} נכשלו',
} });
"""


def test_in_a_page_from_right_to_left_each_number_stays_before_its_unit(
    page: Page, served: Served
) -> None:
    served.report("scan:1", percent=40, done=3, total=10, unit="קבצים")
    served.report("scan:2", percent=40, done=3_000_000, total=10_000_000, unit="B")
    served.report("scan:3", status="running")
    served.report("scan:3", status="succeeded")
    served.report("stall:1", percent=20, lease=1)
    served.report("group:1", children=412)
    served.report("group:1/a", status="failed")
    body = (
        '<html dir="rtl" lang="he"><link rel="icon" href="data:,"><title>חנות</title>הזמנות'
        f'<script type="module">{HEBREW.replace("/client.js", f"{served.url}/client.js")}</script>'
        + "".join(
            f'<job-progress job="{job}"><time slot="aside">19 s</time></job-progress>'
            for job in ("scan:1", "scan:2", "scan:3", "stall:1", "group:1")
        )
        + '<job-list prefix="scan:" limit="1"></job-list></html>'
    )
    with serve_site(body) as site:
        page.goto(site)
        for job, part, first, second in (
            ("scan:1", None, "19", "s"),
            ("scan:1", "amount", "3", "10"),
            ("scan:2", "amount", "10.0", "MB"),
            ("scan:3", "time", "than", "1"),
            ("stall:1", "figure", "20", "%"),
            ("group:1", "amount", "1", "412"),
        ):
            bar = page.locator(f'job-progress[job="{job}"]').first
            text = bar.locator(f".{part}" if part else "time")
            expect(text).to_contain_text(second)
            assert text.evaluate(AFTER, [first, second]), text.inner_text()
        more = page.locator("job-list [part=more]")
        expect(more).to_have_text("2 more")
        assert more.evaluate(AFTER, ["2", "more"])


def test_with_forced_colours_the_bar_stands_out(page: Page, bar: Locator) -> None:
    page.emulate_media(forced_colors="active")
    drawn = page.locator("job-progress .bar")
    assert drawn.evaluate(BACKGROUND) != bar.evaluate(BACKGROUND)
    assert bar.evaluate("(node) => getComputedStyle(node).borderTopWidth") == "1px"


def test_the_bar_is_printed(page: Page, bar: Locator) -> None:
    page.emulate_media(media="print")
    drawn = page.locator("job-progress .bar")
    assert drawn.evaluate("(node) => getComputedStyle(node).printColorAdjust") == "exact"
    assert bar.evaluate("(node) => getComputedStyle(node).borderTopWidth") == "1px"
    expect(page.get_by_text("37%", exact=True)).to_be_visible()
