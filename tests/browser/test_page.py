"""Jobs without faults, on the gateway's own page."""

from __future__ import annotations

import re

import pytest

from gateway import Job

from .chromium import BrowserContext, Page, expect
from .locators import bar_of, connection_of, painted_frames, row_of
from .served import Served


def test_the_first_rendered_bar_is_correct(page: Page, served: Served) -> None:
    served.report("video:42", percent=37, phase="encode", message="frame 444")

    page.goto(served.url)
    expect(bar_of(page, "video:42")).to_have_attribute("aria-valuenow", "37")
    expect(row_of(page, "video:42")).to_contain_text("37%")
    expect(row_of(page, "video:42")).to_contain_text("encode")
    expect(row_of(page, "video:42")).to_contain_text("frame 444")
    expect(connection_of(page)).to_have_text("Live")
    assert {(frame.figure, frame.filled) for frame in painted_frames(page, "video:42")} == {
        ("37%", 37.0)
    }


def test_a_job_is_followed_from_its_start_to_its_end(page: Page, served: Served) -> None:
    page.goto(served.url)
    expect(connection_of(page)).to_have_text("Live")

    with Job("video:42", url=served.url, total=200, unit="frames") as job:
        row, bar = row_of(page, "video:42"), bar_of(page, "video:42")
        expect(bar).to_be_visible()
        for done, phase in ((50, "decode"), (90, "encode"), (91, "encode"), (180, "upload")):
            job.update(done=done, phase=phase, message=f"at {done}")
            expect(bar).to_have_attribute("aria-valuenow", str(done // 2))
            expect(row).to_contain_text(f"{done // 2}%")
            expect(row).to_contain_text(f"{phase}at {done}")
            expect(row).to_contain_text(f"{done} / 200 frames")

    expect(row).to_contain_text("Succeeded")
    expect(row).to_contain_text("took")
    expect(bar).to_have_attribute("aria-valuetext", re.compile("^Succeeded, "))
    frames = painted_frames(page, "video:42")
    filled = [frame.filled for frame in frames]
    assert filled == sorted(filled), "the bar went back"
    assert filled[-1] == 100


def test_fast_jobs_leave_no_gap(page: Page, served: Served) -> None:
    page.goto(served.url)
    expect(connection_of(page)).to_have_text("Live")
    for number in range(1, 4):
        with Job(f"fast:{number}", url=served.url, unit="rows") as job:
            for row in job.track(range(20_000)):
                job.update(message=f"row {row}")
    for number in range(1, 4):
        expect(row_of(page, f"fast:{number}")).to_contain_text("Succeeded")
        expect(row_of(page, f"fast:{number}")).to_contain_text("20,000 rows")

    page.get_by_role("button", name="Live", exact=True).click()
    facts = page.get_by_role("dialog", name="Connection")
    expect(facts).to_contain_text("Violations0")
    expect(facts).to_contain_text("Reconnects0")
    expect(facts).to_contain_text("All states are current.")


def test_a_reload_shows_the_current_state_immediately(page: Page, served: Served) -> None:
    served.report("video:42", percent=10)
    page.goto(served.url)
    expect(row_of(page, "video:42")).to_contain_text("10%")
    served.report("video:42", percent=64)
    expect(row_of(page, "video:42")).to_contain_text("64%")

    page.reload()
    expect(row_of(page, "video:42")).to_contain_text("64%")
    assert {(frame.figure, frame.filled) for frame in painted_frames(page, "video:42")} == {
        ("64%", 64.0)
    }
    served.report("video:42", percent=65)
    expect(row_of(page, "video:42")).to_contain_text("65%")


def test_two_tabs_show_the_same_and_are_independent(
    context: BrowserContext, page: Page, served: Served
) -> None:
    second_page = context.new_page()
    served.report("video:42", percent=5)
    for tab in (page, second_page):
        tab.goto(served.url)
        expect(row_of(tab, "video:42")).to_contain_text("5%")
    served.report("video:42", percent=55)
    for tab in (page, second_page):
        expect(row_of(tab, "video:42")).to_contain_text("55%")

    page.close()
    served.report("video:42", percent=56)
    expect(row_of(second_page, "video:42")).to_contain_text("56%")
    expect(connection_of(second_page)).to_have_text("Live")


def test_a_failed_job_shows_its_error(page: Page, served: Served) -> None:
    page.goto(served.url)
    served.report("import:7", percent=80, message="row 8000")
    expect(row_of(page, "import:7")).to_contain_text("80%")

    served.report("import:7", status="failed", error="ValueError: row 8001 has 3 columns")
    row = row_of(page, "import:7")
    expect(row).to_contain_text("Failed")
    expect(row).to_contain_text("ValueError: row 8001 has 3 columns")
    expect(row.get_by_role("status")).to_contain_text("ValueError: row 8001 has 3 columns")
    expect(bar_of(page, "import:7")).to_have_attribute("aria-valuenow", "80")


def test_a_retry_restarts_the_bar_and_shows_the_attempt(page: Page, served: Served) -> None:
    served.report("import:7", percent=80)
    page.goto(served.url)
    expect(row_of(page, "import:7")).to_contain_text("80%")
    served.report("import:7", status="failed", error="no disk space")
    expect(row_of(page, "import:7")).to_contain_text("no disk space")

    served.report("import:7", start=True, percent=12)
    row = row_of(page, "import:7")
    expect(row).to_contain_text("attempt 2")
    expect(row).to_contain_text("12%")
    expect(row).not_to_contain_text("no disk space")
    again = [frame for frame in painted_frames(page, "import:7") if frame.attempt]
    assert {frame.filled for frame in again} == {12.0}, "its old bar ran back to the new one"


def test_texts_of_a_worker_are_not_html(page: Page, served: Served) -> None:
    evil = "<img src=x onerror=\"document.title='owned'\"></script><script>alert(1)</script>"
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    served.report("evil:1", percent=50, message=evil, phase="<b>phase</b>", unit="<i>", done=1)
    served.report("evil:2", status="failed", error=evil)

    page.goto(served.url)
    expect(row_of(page, "evil:1")).to_contain_text(evil)
    expect(row_of(page, "evil:1")).to_contain_text("<b>phase</b>")
    expect(row_of(page, "evil:1")).to_contain_text("1 <i>")
    expect(row_of(page, "evil:2")).to_contain_text(evil)
    expect(page.get_by_role("main").get_by_role("img")).to_have_count(0)
    assert "owned" not in page.title()
    assert dialogs == []


@pytest.mark.parametrize(("lang", "words"), [("de", "1 laufen"), ("zh", "1 个进行中")])
def test_the_page_speaks_the_readers_language(
    page: Page, served: Served, lang: str, words: str
) -> None:
    served.report("video:42", percent=37)
    page.goto(f"{served.url}/?lang={lang}")
    expect(page.get_by_role("progressbar", name="video:42")).to_be_visible()
    text = page.locator("body").inner_text()
    assert words in text
    figure = "37\xa0%" if lang == "de" else "37%"
    expect(page.get_by_text(figure, exact=True)).to_be_visible()
    for english in ("Running", "Queued", "JobFilter", "Active", "Live job"):
        assert english not in text
    assert page.locator("html").get_attribute("lang") == lang
