"""What stays on a page for long: bars that are in its HTML, through retries, refusals, users who
change, and many tabs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from .bundled import MODULES, bundle
from .chromium import Complaints, Locator, Page, expect
from .foreign import PAGES
from .proxy import Proxy
from .served import Served
from .site import serve_site
from .test_outages import LUCKY
from .test_recipes import htmx
from .test_tokens import RETURNED, SECRET, mint

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<link rel="icon" href="data:,">
<title>A shop</title>
{head}
<job-progress job="video:42" label="Your video"></job-progress>
{more}
</html>
"""
ENDS = """<script type="module">
  globalThis.ends = [];
  document.addEventListener('job-end', ({ detail: { attempt, state, alreadyOver } }) => {
    ends.push([attempt, state.status, alreadyOver]);
  });
</script>"""
CLIENT = '<script type="module" src="{gateway}/client.js"></script>'


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def guarded() -> Iterator[Served]:
    """A gateway that requires tokens."""
    with Served("--secret", SECRET, token=mint("--publish", "*")) as served:
        yield served


def bar(page: Page) -> Locator:
    return page.get_by_role("progressbar", name="Your video")


def test_a_bar_follows_the_retry_and_each_end_is_announced_once(
    page: Page, served: Served, stack: ExitStack
) -> None:
    served.report("video:42", percent=40)
    html = PAGE.format(head=ENDS + CLIENT.format(gateway=served.url), more="")
    page.goto(stack.enter_context(serve_site(html)))
    expect(page.get_by_text("40%", exact=True)).to_be_visible()
    served.report("video:42", status="failed", error="disk full")
    expect(page.get_by_text("disk full", exact=True)).to_be_visible()
    # Another component that watches the same job does not cause another report.
    page.evaluate(
        """() => {
          const bar = document.querySelector('job-progress');
          const other = bar.cloneNode();
          bar.after(other);
          other.remove();
        }"""
    )
    served.report("video:42", start=True, percent=10)
    expect(page.get_by_text("attempt 2", exact=True)).to_be_visible()
    served.report("video:42", status="succeeded")
    expect(page.get_by_text("Succeeded", exact=True)).to_be_visible()
    ends = page.evaluate("ends")
    assert [end for end in ends if not end[2]] == [[1, "failed", False], [2, "succeeded", False]]

    page.reload()
    expect(page.get_by_text("Succeeded", exact=True)).to_be_visible()
    assert page.evaluate("ends") == [[2, "succeeded", True]]


CONFIGURE = """<script type="module">
  import {{ configure }} from '{gateway}/client.js';
  configure({{ token: async () => (await fetch('/progress-token')).text() }});
</script>"""
LATE = """<script type="module">
  import {{ configure }} from '{gateway}/client.js';
  addEventListener('load', () => setTimeout(() => {{
    configure({{ token: async () => (await fetch('/progress-token')).text() }});
  }}, 500));
</script>"""
ATTRIBUTE = (
    '<script type="module" src="{gateway}/client.js" data-token-url="/progress-token"></script>'
)
META = (
    '<meta name="progress-gateway" content="{gateway}/ws" data-token-url="/progress-token">'
    '<script type="module" src="/app.js"></script>'
)
BUNDLE = '<script type="module" src="/app.js" data-gateway="{gateway}/ws"></script>'
HTMX = '<script src="/htmx.js"></script>' + ATTRIBUTE
TURBO = '<script src="/turbo.js"></script>' + CLIENT + CONFIGURE


@pytest.mark.parametrize(
    "head",
    [CONFIGURE, CLIENT + CONFIGURE, CONFIGURE + CLIENT, LATE, ATTRIBUTE, META, BUNDLE, HTMX, TURBO],
    ids=["configure", "after", "before", "late", "attribute", "meta", "bundle", "htmx", "turbo"],
)
def test_a_bar_in_the_html_waits_for_its_token(
    complaints: Complaints,
    page: Page,
    guarded: Served,
    stack: ExitStack,
    tmp_path: Path,
    head: str,
) -> None:
    if head is LATE:
        complaints.expect("a token is needed first")
    guarded.report("video:42", percent=37)
    scripts = {}
    if "/app.js" in head:
        entry = tmp_path / "entry.js"
        own = Path(__file__).parents[2] / "web" / "src"
        configured = (
            f"""
            import {{ configure, tokenFrom }} from {json.dumps(str(own / "core.js"))};
            configure({{ gateway: '{guarded.url}/ws', token: tokenFrom('/progress-token') }});
            """
            if head is BUNDLE
            else ""
        )
        entry.write_text(f"import {json.dumps(str(own / 'element.js'))};\n{configured}")
        scripts["/app.js"] = bundle(entry, "--format=esm")
    if head is HTMX:
        scripts["/htmx.js"] = htmx()
    if head is TURBO:
        turbo = MODULES / "@hotwired" / "turbo" / "dist" / "turbo.es2017-umd.js"
        scripts["/turbo.js"] = turbo.read_text()
    html = PAGE.format(head=head.format(gateway=guarded.url), more="")
    token = mint("--watch", "video:*")
    page.goto(
        stack.enter_context(serve_site(html, scripts=scripts, parts={"/progress-token": token}))
    )
    expect(page.get_by_text("37%", exact=True)).to_be_visible()
    guarded.report("video:42", percent=40)
    expect(page.get_by_text("40%", exact=True)).to_be_visible()


def test_another_users_page_shows_nothing_of_the_previous_user(
    page: Page, guarded: Served, stack: ExitStack
) -> None:
    guarded.report("video:42", percent=37)
    head = CLIENT.format(gateway=guarded.url) + CONFIGURE.format(gateway=guarded.url)
    ann = mint("--watch", "video:*", "--subject", "ann")
    page.goto(
        stack.enter_context(
            serve_site(PAGE.format(head=head, more=""), parts={"/progress-token": ann})
        )
    )
    expect(page.get_by_text("37%", exact=True)).to_be_visible()
    ben = mint("--watch", "other:*", "--subject", "ben")
    page.evaluate(
        """async ([client, token]) => (await import(client)).configure({ token })""",
        [f"{guarded.url}/client.js", ben],
    )
    expect(page.get_by_text("There is no report on this job yet.")).to_be_visible()
    expect(page.get_by_text("37%", exact=True)).to_have_count(0)
    page.evaluate(
        """async ([client, token]) => (await import(client)).configure({ token })""",
        [f"{guarded.url}/client.js", ann],
    )
    expect(page.get_by_text("37%", exact=True)).to_be_visible()
    page.evaluate("async (client) => (await import(client)).logout()", f"{guarded.url}/client.js")
    expect(page.get_by_text("37%", exact=True)).to_have_count(0)
    expect(page.get_by_text("not connected")).to_be_visible()
    expect(page.get_by_text("There is no report on this job")).to_have_count(0)


USERS = """<script type="module">
  import * as client from '{gateway}/client.js';
  globalThis.client = client;
  globalThis.tokens = {tokens};
  globalThis.user = 'ann';
  globalThis.login = () => async () => tokens[user];
  client.configure({{ gateway: '{proxy}/ws', token: login() }});
</script>"""


LOG_IN = "client.configure({ token: login() })"


@pytest.mark.parametrize(
    ("order", "change", "transport"),
    [
        ("cut first", LOG_IN, "websocket"),
        ("cut first", "client.configure({ token: tokens.ben })", "websocket"),
        ("cut first", f"client.logout(); {LOG_IN}", "sse"),
        ("user first", f"{LOG_IN}; void client.renew(); client.logout(); client.renew()", "sse"),
        ("user first", LOG_IN, "websocket"),
        ("after the outage", LOG_IN, "sse"),
    ],
)
def test_another_user_in_an_outage(
    complaints: Complaints,
    page: Page,
    guarded: Served,
    stack: ExitStack,
    order: str,
    change: str,
    transport: str,
) -> None:
    complaints.expect("WebSocket connection to|ERR_|Failed to load|CORS")
    guarded.report("video:42", percent=37)
    guarded.report("other:1", percent=62)
    proxy = stack.enter_context(Proxy(guarded.url))
    proxy.refuse_upgrades = transport == "sse"
    tokens = {
        user: mint("--watch", f"{prefix}:*", "--subject", user)
        for user, prefix in (("ann", "video"), ("ben", "other"))
    }
    users = USERS.format(gateway=guarded.url, proxy=proxy.url, tokens=json.dumps(tokens))
    other = '<job-progress job="other:1"></job-progress>'
    page.add_init_script(LUCKY)
    page.goto(stack.enter_context(serve_site(PAGE.format(head=users, more=other))))
    expect(page.get_by_text("37%", exact=True)).to_be_visible()
    expect(page.get_by_text("There is no report on this job")).to_have_count(1)

    log_in = f"user = 'ben'; {change}"
    if order == "user first":
        page.evaluate(log_in)
    proxy.instead = {"127.0.0.1": PAGES["nginx 502"]}
    proxy.cut()
    if order != "user first":
        expect(page.get_by_text("reconnecting…").first).to_be_visible()
    if order == "after the outage":
        proxy.instead = {}
    if order != "user first":
        page.evaluate(log_in)
    expect(page.get_by_text("37%", exact=True)).to_have_count(0)
    if order == "cut first":  # no job is shown as unknown
        expect(page.get_by_text("There is no report on this job")).to_have_count(0)
        expect(page.get_by_text(re.compile("connecting…"))).to_have_count(2)
    proxy.instead = {}
    expect(page.get_by_text("62%", exact=True)).to_be_visible(timeout=RETURNED)
    expect(page.get_by_text("There is no report on this job")).to_have_count(1)
    expect(page.get_by_text("37%", exact=True)).to_have_count(0)


@pytest.mark.parametrize("transport", ["websocket", "http"])
def test_a_page_of_an_origin_that_is_not_allowed_shows_an_explanation(
    complaints: Complaints, page: Page, stack: ExitStack, transport: str
) -> None:
    warnings: list[str] = []
    page.on(
        "console",
        lambda console_message: (
            warnings.append(console_message.text) if console_message.type == "warning" else None
        ),
    )
    complaints.expect("--origins|ERR_|CORS|WebSocket connection to")
    served = stack.enter_context(Served(origins=None))
    served.report("video:42", percent=37)
    gateway = served.url
    if transport == "http":
        proxy = stack.enter_context(Proxy(served.url))
        proxy.refuse_upgrades = True
        gateway = proxy.url
    html = PAGE.format(head=CLIENT.format(gateway=gateway), more="")
    shop = stack.enter_context(serve_site(html))
    page.goto(shop)
    expect(page.get_by_text("not connected")).to_be_visible()
    assert (
        [text for text in warnings if f"add it to the gateway's --origins: {shop}" in text]
        == warnings
        != []
    )
    assert len(warnings) == 1


def test_a_page_without_a_component_does_not_connect(
    complaints: Complaints, page: Page, served: Served, stack: ExitStack
) -> None:
    sent_frames: list[str] = []
    page.clock.install()
    html = f'<html><link rel="icon" href="data:,">{CLIENT.format(gateway=served.url)}</html>'
    page.goto(stack.enter_context(serve_site(html)), wait_until="networkidle")
    page.on("request", lambda request: sent_frames.append(request.url))
    page.on("websocket", lambda socket: sent_frames.append(socket.url))
    page.clock.run_for(60_000)
    assert sent_frames == []
    page.evaluate("document.body.innerHTML = '<job-progress job=\"video:42\"></job-progress>'")
    page.clock.run_for(1_000)
    expect(page.get_by_text("There is no report on this job")).to_be_visible()
    assert len(sent_frames) == 1


def test_eight_tabs_work_without_websockets(
    complaints: Complaints, page: Page, served: Served, stack: ExitStack
) -> None:
    complaints.expect("WebSocket connection to")
    proxy = stack.enter_context(Proxy(served.url))
    proxy.refuse_upgrades = True
    served.report("video:42", percent=10)
    html = PAGE.format(head=CLIENT.format(gateway=proxy.url), more="")
    shop = stack.enter_context(serve_site(html))
    tabs = [page, *(page.context.new_page() for _ in range(7))]
    for tab in tabs:
        tab.goto(shop)
        expect(tab.get_by_text("10%", exact=True)).to_be_visible()
    served.report("video:42", percent=20)
    for tab in tabs:
        expect(tab.get_by_text("20%", exact=True)).to_be_visible()


def test_unfinished_jobs_never_show_100_percent_and_errors_show_their_end(
    page: Page, served: Served, stack: ExitStack
) -> None:
    served.report("video:42", done=199_995, total=200_000, unit="rows")
    lines = "\n".join(f'  File "import.py", line {number}' for number in range(40))
    error = f"Traceback (most recent call last):\n{lines}\nValueError: row 8001 has 3 columns"
    served.report("import:1", status="failed", error=error)
    more = '<job-progress job="import:1" label="Import"></job-progress>'
    html = PAGE.format(head=CLIENT.format(gateway=served.url), more=more)
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto(stack.enter_context(serve_site(html)))
    expect(page.get_by_text("99%", exact=True)).to_be_visible()
    expect(page.get_by_text("199,995 / 200,000 rows")).to_be_visible()
    spoken = bar(page)
    expect(spoken).to_have_attribute("aria-valuenow", "99")
    expect(spoken).to_have_attribute("aria-valuetext", re.compile("99%"))
    seen = page.evaluate(
        """() => {
          const root = document.querySelector('[job="import:1"]').shadowRoot;
          const [story, text] = [root.querySelector('.texts'), root.querySelector('.error')];
          const range = document.createRange();
          const { firstChild } = text;
          range.setStart(firstChild, firstChild.length - 8);
          range.setEnd(firstChild, firstChild.length);
          const [box, end] = [story.getBoundingClientRect(), range.getBoundingClientRect()];
          return end.top >= box.top - 1 && end.bottom <= box.bottom + 1;
        }"""
    )
    assert seen
