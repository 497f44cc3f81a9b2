"""A gateway that requires tokens: pages that have one, and its expiry."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.auth import tokens
from gateway.auth.keys import read_keys
from gateway.auth.permissions import LEEWAY
from tests.cli.processes import run_command

from .chromium import Complaints, Locator, Page, Route, WebSocket, expect
from .foreign import PAGES
from .locators import bar_of, connection_of, row_of
from .proxy import Proxy
from .served import Served
from .site import serve_site
from .test_outages import LUCKY

SECRET = secrets.token_urlsafe(32)
GRACE = "[limits]\nexpiry_grace = 0.5\n"
"""Seconds from the expiry of a token to the end of its connection."""
RETURNED = 20_000
"""Milliseconds for a reconnect within the gateway's retry window, on a busy machine."""
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<link rel="icon" href="data:,">
<title>A shop</title>
<script type="module">
  import {{ configure, connect }} from '{gateway}/client.js';
  configure({{ token: () => mint() }});
  connect().observe(({{ state, transport, ending }}) => {{
    const said = [state, transport, ending?.code];
    document.querySelector("[role=status]").textContent = said.join(" ");
  }});
  document.querySelector('main').innerHTML = '<job-progress job="video:42"></job-progress>';
</script>
<p role="status" aria-label="Connection"></p>
<main></main>
</html>
"""


def mint(*claims: str, ttl: str = "1h") -> str:
    made = run_command("token", "--secret", SECRET, "--ttl", ttl, *claims)
    made.check_returncode()
    return made.stdout.strip()


def over_in(seconds: float) -> str:
    """Returns a token that the gateway accepts for so many seconds."""
    (key,) = read_keys(SECRET, source="the test")
    return tokens.sign_token(key, now=time.time() - LEEWAY, ttl=seconds, watch=["video:*"])


def login(seconds: float, *, failures: int) -> Callable[[], str]:
    """Returns a login server. It gives a token that is valid for so many seconds, then fails so
    often, and then gives tokens that stay valid. The seconds begin when the token is requested,
    however long the page takes to load."""
    answers: list[float | None] = [seconds, *[None] * failures]

    def answer() -> str:
        if not answers:
            return mint("--watch", "video:*")
        left = answers.pop(0)
        if left is None:
            raise ConnectionError("no database")
        return over_in(left)

    return answer


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """A gateway that requires tokens."""
    settings = tmp_path / "gateway.toml"
    settings.write_text(GRACE)
    options = ("--secret", SECRET, "--config", str(settings))
    with Served(*options, token=mint("--publish", "*")) as served:
        yield served


def said_of_connection(page: Page) -> Locator:
    """Returns the shop page's text about the connection: state, transport, last close code."""
    return page.get_by_role("status", name="Connection")


def test_a_token_is_renewed_without_a_visible_interruption(page: Page, served: Served) -> None:
    minted: list[str] = []
    texts: list[str] = []
    sockets: list[WebSocket] = []

    def opened(socket: WebSocket) -> None:
        sockets.append(socket)
        socket.on("framesent", lambda text: texts.append(json.loads(text)["type"]))

    def provide() -> str:
        minted.append(mint("--watch", "video:*", ttl="3s"))
        return minted[-1]

    page.on("websocket", opened)
    page.expose_function("mint", provide)
    served.report("video:42", percent=10)
    with serve_site(PAGE.format(gateway=served.url)) as site:
        page.goto(site)
        bar = page.get_by_role("progressbar", name="video:42")
        expect(bar).to_have_attribute("aria-valuenow", "10")
        percent = 10
        while len(minted) < 5:  # past the end of the first
            percent += 1
            served.report("video:42", percent=percent)
            expect(bar).to_have_attribute("aria-valuenow", str(percent))
        expect(page.get_by_text("reconnecting…")).to_have_count(0)
    assert len(sockets) == 1
    assert texts.count("hello") >= 4


def test_the_user_enters_a_token_once(complaints: Complaints, page: Page, served: Served) -> None:
    complaints.expect("401")
    served.report("video:42", percent=10)
    page.goto(served.url)
    expect(page.get_by_role("heading", name="This gateway requires a token")).to_be_visible()
    token = page.get_by_label("Token")
    token.fill("nonsense")
    page.get_by_role("button", name="Show jobs").click()
    expect(page.get_by_role("alert")).to_contain_text("does not accept this token")

    token.fill(mint("--watch", "video:*"))
    token.press("Enter")
    expect(row_of(page, "video:42")).to_contain_text("10%")
    expect(connection_of(page)).to_have_text("Live")
    served.report("video:42", percent=20)
    expect(bar_of(page, "video:42")).to_have_attribute("aria-valuenow", "20")
    page.reload()
    expect(row_of(page, "video:42")).to_contain_text("20%")


def test_a_failed_token_renewal_costs_one_reconnect(
    complaints: Complaints, page: Page, served: Served
) -> None:
    complaints.expect("closed with 4100")  # on a slow machine it expires as soon as it is sent
    page.expose_function("mint", login(2, failures=1))
    served.report("video:42", percent=10)
    with serve_site(PAGE.format(gateway=served.url)) as site:
        page.goto(site)
        bar = page.get_by_role("progressbar", name="video:42")
        expect(bar).to_have_attribute("aria-valuenow", "10")
        expect(said_of_connection(page)).to_have_text("live websocket 4100", timeout=RETURNED)
        served.report("video:42", percent=20)
        expect(bar).to_have_attribute("aria-valuenow", "20")


def test_an_expired_token_is_requested_again(
    complaints: Complaints, page: Page, served: Served
) -> None:
    complaints.expect("closed with 4100: the token expired at .*, its `exp`")
    page.expose_function("mint", login(-60, failures=0))
    served.report("video:42", percent=10)
    with serve_site(PAGE.format(gateway=served.url)) as site:
        page.goto(site)
        expect(said_of_connection(page)).to_have_text("live websocket 4100", timeout=RETURNED)
        bar = page.get_by_role("progressbar", name="video:42")
        expect(bar).to_have_attribute("aria-valuenow", "10")


@pytest.mark.parametrize("transport", ["sse", "polling"])
def test_a_page_of_another_origin_uses_the_fallback_with_its_token(
    complaints: Complaints, page: Page, served: Served, transport: str
) -> None:
    complaints.expect("WebSocket connection to|ERR_|Failed to load resource")
    page.clock.install()
    page.expose_function("mint", lambda: mint("--watch", "video:*"))
    served.report("video:42", percent=37)
    with Proxy(served.url) as proxy, serve_site(PAGE.format(gateway=proxy.url)) as site:
        proxy.refuse_upgrades = True
        proxy.hold_streams = transport == "polling"
        page.goto(site)
        said = said_of_connection(page)
        if proxy.hold_streams:
            while not proxy.held:  # the silence of the stream is measured from its request
                page.wait_for_timeout(50)
            page.clock.fast_forward("00:11")
        expect(said).to_have_text(re.compile(f"^live {transport}"))
        bar = page.get_by_role("progressbar", name="video:42")
        expect(bar).to_have_attribute("aria-valuenow", "37")
        served.report("video:42", percent=60)
        expect(bar).to_have_attribute("aria-valuenow", "60")
        served.report("video:42", status="failed", error="disk full")
        expect(page.get_by_text("disk full", exact=True)).to_be_visible()


class Login:
    """What the application's own backend answers for a token, as it is written in the recipe."""

    def __init__(self) -> None:
        self.token: Callable[[], str] = lambda: over_in(3)
        self.instead: bytes | None = None
        self.asked = 0

    def __call__(self, route: Route) -> None:
        self.asked += 1
        if self.instead is None:
            route.fulfill(body=self.token())
        else:
            head, _, body = self.instead.partition(b"\r\n\r\n")
            route.fulfill(status=int(head.split()[1]), body=body)


@pytest.mark.parametrize("answer", ["nginx 502", "portal 200"])
def test_a_deploy_of_the_backend_ends_no_page(
    complaints: Complaints, page: Page, served: Served, answer: str
) -> None:
    """While the backend is deployed its answers are no tokens. The page sends none of them, and
    reconnects when the backend answers with a token."""
    complaints.expect("Failed to load resource|not a JSON Web Token|closed with 4100")
    login = Login()
    sent_messages: list[str] = []
    page.on(
        "websocket",
        lambda socket: socket.on("framesent", lambda text: sent_messages.append(str(text))),
    )
    served.report("video:42", percent=10)
    head = f'<script type="module" src="{served.url}/client.js" data-token-url="/token"></script>'
    with serve_site(f'<!doctype html>{head}<job-progress job="video:42"></job-progress>') as site:
        page.add_init_script(LUCKY)
        page.route("**/token", login)
        page.goto(site)
        bar = page.locator("job-progress")
        expect(bar).to_contain_text("10%")
        asked = login.asked
        login.instead = PAGES[answer]
        while login.asked < asked + 2:  # to renew the token, and after its end to connect
            page.wait_for_timeout(100)
        expect(bar).to_contain_text("10%")
        login.instead = None
        login.token = lambda: mint("--watch", "video:*")
        served.report("video:42", percent=20)
        expect(bar).to_contain_text("20%", timeout=RETURNED)
        expect(page.locator("job-progress[stale]")).to_have_count(0)
    tokens = [json.loads(text).get("token") for text in sent_messages]
    assert {token.count(".") for token in tokens if token is not None} == {2}
