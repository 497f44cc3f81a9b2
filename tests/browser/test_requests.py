"""A job is cancelled from its page: with a click, with the keyboard, in every state of the job."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.cli.processes import GATEWAY, Running, run_command

from .chromium import Complaints, Locator, Page, Route, expect
from .locators import connection_of, row_of
from .served import Served
from .site import serve_site

WORKER = """
import sys
import threading
from gateway import Job

with Job("train:7", url=sys.argv[1], total=100, accepts={"cancel"}, interrupt=True) as job:
    print("began", flush=True)
    while True:
        job.check()
        job.advance(0)
        threading.Event().wait(0.01)
"""
REFUSING = """
import sys
from gateway import Job

with Job("train:7", url=sys.argv[1], accepts={"cancel"}) as job:
    job.on_request(lambda request: job.refuse("it is uploading"))
    print("began", flush=True)
    sys.stdin.read()
"""
PAGE = """<!doctype html>
<html lang="{lang}">
<meta charset="utf-8">
<link rel="icon" href="data:,">
<title>A shop</title>
<script type="module">
  import {{ configure }} from '{gateway}/client.js';
  configure({{ gateway: '{gateway}/ws', locale: '{lang}', token: {token} }});
</script>
<job-progress job="train:7" label="Training" {actions}></job-progress>
"""


NOBODY = "undefined"


def stop(page: Page) -> Locator:
    return page.get_by_role("button", name="Stop train:7")


def accept_cancel(served: Served) -> None:
    """Reports once, as a worker does, which requests the job accepts."""
    served.report("train:7", percent=37, accepts=["cancel"], lease=600)


def request_of(served: Served) -> dict[str, str]:
    document = httpx.get(f"{served.url}/api/jobs/train:7", trust_env=False).json()
    request: dict[str, str] = document["state"].get("request", {})
    return request


def test_a_click_cancels_a_real_worker(page: Page, served: Served) -> None:
    with Running(sys.executable, "-c", WORKER, served.url) as worker:
        worker.until("began")
        page.goto(served.url)
        stop(page).click()
        expect(row_of(page, "train:7")).to_contain_text("Cancelled")
        expect(stop(page)).to_have_count(0)
        assert worker.process.wait(10) is not None


def test_the_keyboard_cancels_a_command_in_the_detail(page: Page, served: Served) -> None:
    with Running(*GATEWAY, "run", "train:7", "--url", served.url, "--", "sleep", "600") as worker:
        page.goto(f"{served.url}/?job=train:7")
        button = page.get_by_role("dialog").get_by_role("button", name="Stop train:7")
        button.focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("dialog")).to_contain_text("Cancelled")
        expect(button).to_have_count(0)
        assert worker.process.wait(10) is not None


def test_a_refusal_is_shown_and_the_request_can_be_repeated(page: Page, served: Served) -> None:
    with Running(sys.executable, "-c", REFUSING, served.url, stdin=subprocess.PIPE) as worker:
        worker.until("began")
        page.goto(served.url)
        stop(page).click()
        expect(row_of(page, "train:7").get_by_text("Refused: it is uploading")).to_be_visible()
        expect(stop(page)).to_be_enabled()
        first = request_of(served)["id"]
        stop(page).click()
        expect(row_of(page, "train:7").get_by_text("Refused: it is uploading")).to_be_visible()
        page.wait_for_function(
            "(first) => fetch('api/jobs/train:7').then((answer) => answer.json())"
            ".then(({ state }) => state.request.id !== first && state.request.refused)",
            arg=first,
        )


def test_buttons_follow_the_state_and_two_clicks_send_one_request(
    page: Page, served: Served
) -> None:
    sent_requests: list[dict[str, Any]] = []
    waiting: list[Route] = []

    def hold(route: Route) -> None:
        sent_requests.append(json.loads(route.request.post_data or ""))
        waiting.append(route)

    page.route("**/requests", hold)
    accept_cancel(served)
    page.goto(served.url)
    with page.expect_request("**/requests"):
        stop(page).dblclick()
    row = row_of(page, "train:7")
    expect(stop(page)).to_be_disabled()
    expect(row.get_by_text("stopping…")).to_have_count(0)  # no request was sent so far
    waiting[0].continue_()
    expect(row.get_by_text("stopping…")).to_be_visible()
    expect(stop(page)).to_be_disabled()
    expect(stop(page)).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Space")
    page.reload()  # the state says it
    expect(row.get_by_text("stopping…")).to_be_visible()
    expect(stop(page)).to_be_disabled()

    served.report("train:7", ack=request_of(served)["id"])
    expect(row.get_by_text("stopping…")).to_be_visible()
    served.report("train:7", status="cancelled")
    expect(row).to_contain_text("Cancelled")
    expect(row.get_by_text("stopping…")).to_have_count(0)
    assert [(request["verb"], request["attempt"]) for request in sent_requests] == [("cancel", 1)]


def test_a_button_keeps_its_place_while_the_percentage_and_the_time_grow(
    page: Page, served: Served
) -> None:
    page.goto(served.url)
    places = []
    for percent in (2, 11, 48, 99):
        served.report("train:7", percent=percent, accepts=["cancel"])
        expect(row_of(page, "train:7")).to_contain_text(f"{percent}%")
        places.append(stop(page).bounding_box())
    expect(row_of(page, "train:7").locator("time")).to_have_text("2 s")
    places.append(stop(page).bounding_box())
    assert places == places[:1] * 5


@pytest.mark.parametrize("first", ["asked", "silent"])
def test_a_silent_worker_leaves_the_request_open(page: Page, served: Served, first: str) -> None:
    """The request stays open whether the worker becomes silent after it or before. The worker does
    not become silent during the click: "Stalled at 37%" is longer than "37%" and moves the button,
    so that the click would open the job instead."""
    row = row_of(page, "train:7")
    served.report("train:7", percent=37, accepts=["cancel"], lease=600 if first == "asked" else 1)
    page.goto(served.url)
    if first == "silent":
        expect(row).to_contain_text("Stalled")
    stop(page).click()
    if first == "asked":
        expect(row.get_by_text("stopping…")).to_be_visible()
        served.report("train:7", lease=1)
    expect(row.get_by_text("The worker does not answer.")).to_be_visible()
    expect(stop(page)).to_be_disabled()


def test_a_request_whose_answer_is_lost_is_shown_as_the_state_has_it(
    complaints: Complaints, page: Page, served: Served
) -> None:
    complaints.expect("ERR_FAILED")

    def lose_the_answer(route: Route) -> None:
        route.fetch()
        route.abort()

    page.route("**/requests", lose_the_answer)
    accept_cancel(served)
    page.goto(served.url)
    with page.expect_event("requestfailed"):
        stop(page).click()
    row = row_of(page, "train:7")
    expect(row.get_by_text("stopping…")).to_be_visible()
    expect(stop(page)).to_be_disabled()
    expect(row.get_by_text("The gateway does not answer.")).to_have_count(0)


def test_a_queued_job_that_is_stopped_ends_when_its_worker_takes_it(
    page: Page, served: Served
) -> None:
    served.report("train:7", status="queued", accepts=["cancel"])
    page.goto(served.url)
    stop(page).click()
    row = row_of(page, "train:7")
    expect(row.get_by_text("stopping…")).to_be_visible()
    with Running(sys.executable, "-c", WORKER, served.url):
        expect(row).to_contain_text("Cancelled")
    expect(stop(page)).to_have_count(0)


def test_a_request_to_a_job_that_has_ended_shows_so(
    complaints: Complaints, page: Page, served: Served
) -> None:
    complaints.expect("409")

    def end_first(route: Route) -> None:
        served.report("train:7", status="succeeded")
        route.continue_()

    page.route("**/requests", end_first)
    accept_cancel(served)
    page.goto(served.url)
    with page.expect_response("**/requests") as answered:
        stop(page).click()
    assert answered.value.status == 409
    row = row_of(page, "train:7")
    expect(row).to_contain_text("Succeeded")
    expect(stop(page)).to_have_count(0)
    expect(row.get_by_text("The job has ended already.")).to_have_count(0)


def test_no_button_without_the_attribute_or_accepts(page: Page, served: Served) -> None:
    accept_cancel(served)
    served.report("copy:1", percent=5)
    page.goto(served.url)
    expect(stop(page)).to_be_visible()
    expect(row_of(page, "copy:1").get_by_role("button")).to_have_count(0)
    served.report("copy:1", accepts=["pause", "resume", "save-now"])
    buttons = row_of(page, "copy:1").get_by_role("button")
    expect(buttons).to_have_text(["Pause", "Resume", "save-now"])
    html = PAGE.format(gateway=served.url, lang="en", token=NOBODY, actions="")
    with serve_site(html) as site:
        page.goto(site)
        expect(page.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "37")
        expect(page.get_by_role("button")).to_have_count(0)


def test_a_custom_verb_has_a_button(page: Page, served: Served) -> None:
    served.report("copy:1", percent=5, accepts=["save-now", "cancel"])
    page.goto(served.url)
    row = row_of(page, "copy:1")
    row.get_by_role("button", name="save-now").click()
    expect(row.get_by_text("save-now: requested…")).to_be_visible()
    expect(row.get_by_role("button", name="save-now")).to_be_disabled()
    expect(row.get_by_role("button", name="Stop")).to_be_enabled()
    document = httpx.get(f"{served.url}/api/jobs/copy:1", trust_env=False).json()
    served.report("copy:1", ack=document["state"]["request"]["id"])
    expect(row.get_by_role("button", name="save-now")).to_be_enabled()
    expect(row.get_by_text("requested…")).to_have_count(0)


@pytest.mark.parametrize(
    ("lang", "button", "word"),
    [
        ("en", "Stop", "stopping…"),
        ("de", "Stoppen", "wird gestoppt …"),
        ("zh", "停止", "正在停止…"),
    ],
)
def test_buttons_use_the_language_of_the_page(
    page: Page, served: Served, lang: str, button: str, word: str
) -> None:
    accept_cancel(served)
    html = PAGE.format(gateway=served.url, lang=lang, token=NOBODY, actions="actions")
    with serve_site(html) as site:
        page.goto(site)
        page.get_by_role("button", name=f"{button} Training").click()
        expect(page.get_by_text(word, exact=True)).to_be_visible()


SECRET = secrets.token_urlsafe(32)


def mint(*claims: str) -> str:
    made = run_command("token", "--secret", SECRET, "--ttl", "1h", *claims)
    made.check_returncode()
    return made.stdout.strip()


@pytest.fixture(scope="module")
def tokens() -> dict[str, str]:
    return {
        "worker": mint("--publish", "*"),
        "watcher": mint("--watch", "*"),
        "owner": mint("--watch", "*", "--control", "train:*"),
    }


@pytest.fixture
def served_with_keys(tokens: dict[str, str]) -> Iterator[Served]:
    """A gateway that requires tokens."""
    with Served("--secret", SECRET, token=tokens["worker"]) as served:
        yield served


def test_a_request_without_permission_shows_an_error(
    complaints: Complaints, page: Page, served_with_keys: Served, tokens: dict[str, str]
) -> None:
    complaints.expect("403")
    accept_cancel(served_with_keys)
    token = json.dumps(tokens["watcher"])
    html = PAGE.format(gateway=served_with_keys.url, lang="en", token=token, actions="actions")
    with serve_site(html) as site:
        page.goto(site)
        button = page.get_by_role("button", name="Stop Training")
        button.click()
        expect(page.get_by_text("You are not allowed to do this.")).to_be_visible()
        expect(button).to_be_enabled()
        detail = page.evaluate(
            "async (url) => {"
            " const { requestJob } = await import(`${url}/client.js`);"
            " const failed = ({ message, status }) => [message, status];"
            " return requestJob('train:7', 'cancel').catch(failed);"
            "}",
            served_with_keys.url,
        )
        assert detail == ["The token does not allow requests on this job.", 403]


def test_a_request_uses_the_pages_token(
    complaints: Complaints, page: Page, served_with_keys: Served, tokens: dict[str, str]
) -> None:
    complaints.expect("401")
    accept_cancel(served_with_keys)
    page.goto(served_with_keys.url)
    page.get_by_label("Token").fill(tokens["owner"])
    page.keyboard.press("Enter")
    expect(connection_of(page)).to_have_text("Live")
    stop(page).click()
    expect(row_of(page, "train:7").get_by_text("stopping…")).to_be_visible()


def test_a_click_beside_the_button_opens_the_job(page: Page, served: Served) -> None:
    accept_cancel(served)
    page.goto(served.url)
    expect(stop(page)).to_be_visible()
    page.get_by_text("train:7").first.click(force=True)
    expect(page.get_by_role("dialog", name="train:7")).to_be_visible()


def test_a_request_to_an_unreachable_gateway_shows_an_error(
    complaints: Complaints, page: Page, served: Served
) -> None:
    complaints.expect("ERR_|Failed to load|WebSocket connection to")
    accept_cancel(served)
    page.goto(served.url)
    expect(stop(page)).to_be_visible()
    page.evaluate("import('./src/send-request.js')")
    served.kill()
    stop(page).click()
    row = row_of(page, "train:7")
    expect(row.get_by_text("The gateway does not answer.")).to_be_visible()
    expect(stop(page)).to_be_enabled()
    expect(row.get_by_text("stopping…")).to_have_count(0)
