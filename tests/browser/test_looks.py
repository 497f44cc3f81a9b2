"""Narrow and wide, light and dark: everything can be read and reached."""

from __future__ import annotations

import pytest

from .chromium import Locator, Page, expect
from .locators import connection_of, painted_frames, row_of
from .served import Served

LONG = "/".join(["a-very-long-name-without-any-space-in-it"] * 4)
CONTRAST = """
(element) => {
  // Through a canvas, as the browser computes some colours in other spaces than RGB.
  const pen = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const flatten = (colours) => {
    pen.clearRect(0, 0, 1, 1);
    for (const colour of colours) {
      pen.fillStyle = colour;
      pen.fillRect(0, 0, 1, 1);
    }
    return [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const luminance = (rgb) => {
    const [r, g, b] = rgb
      .map((value) => value / 255)
      .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const grounds = [];
  for (let at = element; at; at = at.assignedSlot ?? at.parentElement ?? at.getRootNode().host) {
    grounds.unshift(getComputedStyle(at).backgroundColor);
  }
  const ground = luminance(flatten(grounds));
  const text = luminance(flatten([...grounds, getComputedStyle(element).color]));
  return (Math.max(ground, text) + 0.05) / (Math.min(ground, text) + 0.05);
}
"""
"""The contrast of an element's text, as WCAG 2 defines it."""


@pytest.fixture
def jobs(served: Served) -> Served:
    """A gateway with a job in each state that shows in colour."""
    served.report("video:42", percent=37, phase="encode", message="frame 444", done=444, unit="f")
    served.report("video:43", status="queued", message="behind video:42")
    served.report("import:1", status="failed", error="ValueError: no such column")
    served.report("import:2", status="succeeded", message="all rows")
    served.report("import:3", status="cancelled", message="by ada")
    served.report("stall:1", percent=20, message="about to stall", lease=1)
    return served


def _texts(page: Page) -> list[Locator]:
    """Returns the smallest elements of the page that show text."""
    return [
        page.get_by_role("heading", name="Jobs", exact=True),
        connection_of(page),
        page.get_by_role("heading", name="Active"),
        page.get_by_placeholder("Search jobs"),
        page.get_by_role("group", name="Status").get_by_text("Queued"),
        *(
            row_of(page, job).get_by_text(text, exact=True)
            for job, text in (
                ("video:42", "video:42"),
                ("video:42", "37%"),
                ("video:42", "encode"),
                ("video:42", "frame 444"),
                ("video:42", "444 f"),
                ("video:43", "Queued"),
                ("import:1", "Failed"),
                ("import:1", "ValueError: no such column"),
                ("import:2", "Succeeded"),
                ("import:3", "Cancelled"),
                ("stall:1", "Stalled at 20%"),
            )
        ),
        row_of(page, "stall:1").get_by_text("no update for"),
        row_of(page, "import:2")
        .get_by_text("ago")
        .or_(row_of(page, "import:2").get_by_text("now")),
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_enough_contrast(page: Page, jobs: Served, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.goto(jobs.url)
    expect(row_of(page, "stall:1")).to_contain_text("Stalled")
    contrasts = {text.inner_text(): text.evaluate(CONTRAST) for text in _texts(page)}
    assert {text: c for text, c in contrasts.items() if c < 4.5} == {}

    red, green, blue = page.evaluate(
        "getComputedStyle(document.body).backgroundColor.match(/[\\d.]+/g).map(Number)"
    )[:3]
    assert (max(red, green, blue) < 64) == (scheme == "dark")


@pytest.mark.parametrize("width", [390, 320])
def test_a_phone_does_not_scroll_horizontally(page: Page, jobs: Served, width: int) -> None:
    jobs.report(LONG, percent=50, phase=LONG, message=LONG, done=1, total=2, unit="frames")
    jobs.report("error:1", status="failed", error=f"Error: {LONG}")
    page.set_viewport_size({"width": width, "height": 844})
    page.goto(jobs.url)
    expect(row_of(page, LONG)).to_contain_text("50%")
    expect(page.get_by_text("1 / 2 frames")).to_be_in_viewport()

    assert page.evaluate("document.documentElement.scrollWidth") == width
    for row in page.get_by_role("listitem").all():
        box = row.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        assert row.evaluate("(row) => row.scrollWidth <= row.clientWidth")
    figure = row_of(page, LONG).get_by_text("50%", exact=True)
    expect(figure).to_be_in_viewport(ratio=1)

    page.get_by_role("button", name="Live", exact=True).click()
    expect(page.get_by_role("dialog", name="Connection")).to_be_in_viewport(ratio=1)
    expect(page.get_by_role("dialog")).to_contain_text("Live for")
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_reduced_motion_is_respected(page: Page, jobs: Served) -> None:
    page.emulate_media(reduced_motion="reduce")
    page.goto(jobs.url)
    expect(row_of(page, "video:42")).to_contain_text("37%")
    jobs.report("video:42", percent=80)
    expect(row_of(page, "video:42")).to_contain_text("80%")
    assert {frame.filled for frame in painted_frames(page, "video:42")} == {37.0, 80.0}
    assert page.evaluate("document.getAnimations().length") == 0


def test_rows_are_hidden_behind_the_header(page: Page, served: Served) -> None:
    page.emulate_media(reduced_motion="reduce")
    for number in range(12):
        served.report(f"video:{number}", percent=99, accepts=["cancel"])
    page.goto(served.url)
    expect(row_of(page, "video:0")).to_contain_text("99%")
    expect(page.get_by_role("button", name="Stop")).to_have_count(12)
    header = page.get_by_role("banner")
    before = header.screenshot()
    for top in range(150, 250, 10):
        page.evaluate(f"scrollTo(0, {top})")
        assert header.screenshot() == before, f"scrolled by {top} pixels"


def test_with_forced_colours_the_chosen_status_and_the_connection_stand_out(
    page: Page, jobs: Served
) -> None:
    page.emulate_media(forced_colors="active")
    page.goto(jobs.url)
    page.get_by_role("group", name="Status").get_by_text("Running").click()
    background = "(node) => getComputedStyle(node).backgroundColor"
    chips = page.locator(".chips span").all()
    colours = {chip.inner_text().split()[0]: chip.evaluate(background) for chip in chips}
    chosen = colours.pop("Running")
    assert chosen not in colours.values()
    light = page.get_by_role("banner").locator(".dot")
    assert light.evaluate(background) != light.evaluate(
        "(node) => getComputedStyle(node.parentElement).backgroundColor"
    )
