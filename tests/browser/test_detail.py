"""The details of one job, and the connection panel for developers."""

from __future__ import annotations

import re

from .chromium import BrowserContext, Page, expect
from .locators import connection_of, row_of
from .served import Served


def test_the_detail_shows_the_state_and_the_history(page: Page, served: Served) -> None:
    evil = "<img src=x onerror=\"document.title='owned'\">"
    served.report("batch:1", percent=1)
    for percent in (10, 35, 70):
        served.report("batch:1/42", percent=percent, message=f"at {percent}")
    served.report("batch:1/42", data={"codec": "av1", "evil": evil})
    page.goto(served.url)
    page.get_by_role("link", name="Details of batch:1/42").click()

    detail = page.get_by_role("dialog", name="batch:1/42")
    expect(detail.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "70")
    chart = detail.get_by_role(
        "img", name=re.compile("^Progress of batch:1.42 over .*: Running, 70%")
    )
    expect(chart).to_be_visible()
    expect(detail).to_contain_text("Since its start at")
    changes = detail.get_by_role("row")
    expect(changes).to_have_count(1 + 4)
    expect(changes.nth(2)).to_contain_text("70%, at 70")
    expect(changes.last).to_contain_text("attempt 1, running, 10%, at 10")
    expect(detail).to_contain_text("<img src=x onerror=")
    assert "owned" not in page.title()

    served.report("batch:1/42", status="failed", error="no disk")
    expect(changes.nth(1)).to_contain_text("failed, no disk")
    expect(detail.get_by_role("definition").first).to_have_text("failed")

    page.reload()  # the URL contains the open job
    expect(detail.get_by_role("row").nth(1)).to_contain_text("failed, no disk")
    detail.get_by_role("link", name="batch:1").click()
    expect(page.get_by_role("dialog", name="batch:1")).to_be_visible()
    page.go_back()
    expect(detail).to_be_visible()
    detail.get_by_role("link", name="batch:1").click()
    expect(page.get_by_role("dialog", name="batch:1")).to_be_visible()
    page.get_by_role("dialog").get_by_role("button", name="Close").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert "job=" not in page.url


def test_the_keyboard_opens_and_closes_it(page: Page, served: Served) -> None:
    for number in range(3):
        served.report(f"job:{number}", percent=number)
    page.goto(served.url)
    expect(row_of(page, "job:0")).to_be_visible()
    page.keyboard.press("/")
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("link", name="Details of job:2")).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    detail = page.get_by_role("dialog", name="job:1")
    expect(detail).to_be_visible()
    page.keyboard.press("Escape")
    expect(detail).to_be_hidden()
    expect(page.get_by_role("link", name="Details of job:1")).to_be_focused()
    expect(page).not_to_have_url(re.compile("job="))


def test_the_detail_of_an_unknown_job_says_so(page: Page, served: Served) -> None:
    page.goto(f"{served.url}/?job=later:1")
    detail = page.get_by_role("dialog", name="later:1")
    expect(detail).to_contain_text("There is no report on this job yet.")
    served.report("later:1", percent=5)
    expect(detail.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "5")


def test_the_address_opens_the_same_detail(
    context: BrowserContext, page: Page, served: Served
) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(served.url)
    expect(connection_of(page)).to_have_text("Live")
    connection_of(page).click()
    panel = page.get_by_role("dialog", name="Connection")
    happened = panel.get_by_role("list", name="Connection log").get_by_role("listitem")
    expect(happened).to_have_count(2)
    expect(happened.first).to_contain_text("Live, node")
    expect(happened.last).to_contain_text("Connecting over WebSocket")
    pings = panel.get_by_role("img", name=re.compile("pings: "))
    expect(pings).to_have_count(0)
    for answered in range(1, 4):
        page.evaluate("dispatchEvent(new Event('online'))")
        if answered > 1:
            expect(panel).to_contain_text(f"{answered} pings: ")
        else:
            expect(panel).not_to_contain_text("Round trip–")
    expect(pings).to_be_visible()

    panel.get_by_role("button", name="Copy as text").click()
    expect(panel.get_by_role("button", name="Copied")).to_be_visible()
    text = page.evaluate("navigator.clipboard.readText()")
    assert "Violations: 0" in text
    assert "Live, node" in text


def test_going_back_does_not_open_a_closed_job(page: Page, served: Served) -> None:
    served.report("video:42", percent=10)
    page.goto(f"{served.url}/?search=video")
    page.get_by_role("link", name="Details of video:42").click()
    dialog = page.get_by_role("dialog", name="video:42")
    expect(dialog).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(page).to_have_url(f"{served.url}/?search=video")
    page.go_forward()
    expect(dialog).to_be_visible()
    page.go_back()
    expect(dialog).to_be_hidden()


def test_a_long_error_is_shown_in_full_and_can_be_copied(page: Page, served: Served) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    lines = [f'  File "import.py", line {number}' for number in range(60)]
    error = "\n".join(["Traceback (most recent call last):", *lines, "ValueError: row 8001"])
    served.report("import:1", status="failed", error=error)
    page.goto(served.url)
    row = page.get_by_role("listitem").filter(has_text="import:1")
    expect(row).to_contain_text("ValueError: row 8001")
    row.get_by_role("link").click()
    block = page.get_by_role("region", name="Error")
    expect(block).to_contain_text("Traceback (most recent call last):")
    below = "(text) => text.scrollHeight - text.clientHeight - text.scrollTop"
    text = block.get_by_text("Traceback (most recent call last):")
    assert text.evaluate("(text) => text.scrollHeight > text.clientHeight")
    assert text.evaluate(below) < 1, "the reason is at the end"
    block.get_by_role("button", name="Copy").click()
    expect(block.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == error


def test_an_update_adds_a_row_to_the_history_and_leaves_the_others(
    page: Page, served: Served
) -> None:
    for percent in range(60):
        served.report("video:42", percent=percent)
    page.goto(served.url)
    page.get_by_role("link", name="Details of video:42").click()
    rows = page.get_by_role("dialog", name="video:42").locator("tbody").get_by_role("row")
    expect(rows).to_have_count(50)
    expect(rows.first).to_contain_text("59%")
    page.evaluate(
        """() => {
          globalThis.changed = [];
          new MutationObserver((records) => changed.push(...records.flatMap((record) =>
            [...record.addedNodes, ...record.removedNodes].map((row) => row.textContent))))
            .observe(document.querySelector('#detail-events'), { childList: true });
        }"""
    )
    served.report("video:42", percent=60)
    expect(rows.first).to_contain_text("60%")
    added, removed = sorted(page.evaluate("changed"), key=lambda text: "60%" not in text)
    assert "60%" in added
    assert "10%" in removed
    expect(rows).to_have_count(50)
    expect(rows.last).to_contain_text("11%")


def test_the_detail_shows_the_whole_of_a_long_message(page: Page, served: Served) -> None:
    message = "reads the next of many files " * 8
    served.report("video:42", percent=10, message=message.strip())
    page.goto(f"{served.url}/?job=video:42")
    bar_message = page.get_by_role("dialog", name="video:42").locator("#detail-bar .message")
    expect(bar_message).to_have_text(message.strip())
    assert bar_message.evaluate(
        """(node) => {
          const [text, box] = [node, node.parentElement].map((it) => it.getBoundingClientRect());
          return text.left >= box.left && text.right <= box.right && text.bottom <= box.bottom;
        }"""
    )


def test_an_update_changes_only_what_it_says(page: Page, served: Served) -> None:
    """An update of a job with a long history makes one row, and no other element."""
    for percent in range(60):
        served.report("video:42", percent=percent, phase="encode", data={"frame": percent})
    page.goto(f"{served.url}/?job=video:42")
    rows = page.get_by_role("dialog", name="video:42").locator("tbody").get_by_role("row")
    expect(rows).to_have_count(50)
    expect(rows.first).to_contain_text("59%")
    page.evaluate(
        """() => {
          globalThis.elements = { added: [], removed: [] };
          const plot = document.querySelector('#detail-plot'); // drawn once a second, see chart.js
          const note = (list, nodes) => {
            for (const { tagName } of nodes) if (tagName) list.push(tagName); // else a text
          };
          new MutationObserver((records) => {
            for (const { target, addedNodes, removedNodes } of records) {
              if (plot.contains(target)) continue;
              note(elements.added, addedNodes);
              note(elements.removed, removedNodes);
            }
          }).observe(document.querySelector('#detail'), { childList: true, subtree: true });
        }"""
    )
    for percent in range(60, 65):
        served.report("video:42", percent=percent, phase="encode", data={"frame": percent})
        expect(rows.first).to_contain_text(f"{percent}%")
        expect(page.locator("#detail-data")).to_contain_text(str(percent))
    # On a slow machine the gateway begins to estimate meanwhile: then the rate gets a row.
    rate = {"DT", "DD"}
    for tags in page.evaluate("elements").values():
        assert [tag for tag in tags if tag not in rate] == ["TR"] * 5
        assert len(tags) <= 5 + 2 * len(rate)


def test_texts_from_right_to_left_are_isolated_everywhere(page: Page, served: Served) -> None:
    """The phase, message, unit, error, data and refusal of a worker that writes Hebrew and Arabic
    are isolated."""
    phase, message, unit = "קידוד וידאו (שלב 2)", "קובץ 3 מתוך 10: סרט.mp4", "קבצים"
    error = "נכשל: הדיסק מלא (100%)!"
    served.report("video:1", phase=phase, message=message, done=3, total=10, unit=unit)
    served.report("video:2", message="ترميز الملف 7 من 9 (mp4)", percent=70)
    served.report("video:1", status="failed", error=error, data={"סיבה": "דיסק"})
    page.goto(served.url)
    row = row_of(page, "video:1")
    expect(row).to_contain_text(error)
    row.get_by_role("link").click()
    detail = page.get_by_role("dialog", name="video:1")
    expect(detail.get_by_role("row").nth(1)).to_contain_text(error)
    isolated = """(root, texts) => {
      const found = [];
      const search = (node) => {
        for (const child of node.childNodes) {
          if (child.nodeType === 3 && texts.some((text) => child.nodeValue.includes(text))) {
            found.push(getComputedStyle(child.parentElement).unicodeBidi);
          }
          if (child.shadowRoot) search(child.shadowRoot);
          search(child);
        }
      };
      search(root);
      return found;
    }"""
    ways = page.locator("body").evaluate(isolated, [phase, message, error, unit, "ترميز"])
    assert len(ways) >= 6
    assert set(ways) <= {"isolate", "plaintext", "isolate-override"}, ways
    block = page.get_by_role("region", name="Error").locator("pre")
    assert block.evaluate("(node) => getComputedStyle(node).direction") == "rtl"
    assert page.locator("#detail-data").evaluate("(it) => getComputedStyle(it).direction") == "ltr"
