"""A gateway that asks for tokens: pages that bring one, and what happens when it expires."""

from __future__ import annotations

import json
import secrets
import subprocess
from collections.abc import Iterator

import pytest

from tests.cli.processes import GATEWAY, clean_environment

from .chromium import Complaints, Page, WebSocket, expect
from .served import Served
from .sight import bar_of, connection_of, row_of
from .site import serve_site

SECRET = secrets.token_urlsafe(32)
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<link rel="icon" href="data:,">
<title>A shop</title>
<script type="module">
  import {{ configure }} from '{gateway}/client.js';
  configure({{ token: () => mint() }});
  document.querySelector('main').innerHTML = '<job-progress job="video:42"></job-progress>';
</script>
<main></main>
</html>
"""


def mint(*claims: str, ttl: str = "1h") -> str:
    made = subprocess.run(
        [*GATEWAY, "token", "--secret", SECRET, "--ttl", ttl, *claims],
        capture_output=True,
        check=True,
        env=clean_environment(),
    )
    return made.stdout.decode().strip()


@pytest.fixture
def served() -> Iterator[Served]:
    """A gateway that asks for tokens."""
    with Served("--secret", SECRET, token=mint("--publish", "*")) as served:
        yield served


def test_a_token_is_renewed_in_mid_job_and_nobody_sees_it(page: Page, served: Served) -> None:
    minted: list[str] = []
    said: list[str] = []
    sockets: list[WebSocket] = []

    def opened(socket: WebSocket) -> None:
        sockets.append(socket)
        socket.on("framesent", lambda text: said.append(json.loads(text)["type"]))

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
    assert said.count("hello") >= 4


def test_the_page_asks_for_a_token_once(complaints: Complaints, page: Page, served: Served) -> None:
    complaints.expect("401")
    served.report("video:42", percent=10)
    page.goto(served.url)
    expect(page.get_by_role("heading", name="This gateway asks for a token")).to_be_visible()
    token = page.get_by_label("Token")
    token.fill("nonsense")
    page.get_by_role("button", name="Show jobs").click()
    expect(page.get_by_role("alert")).to_contain_text("does not take this one")

    token.fill(mint("--watch", "video:*"))
    token.press("Enter")
    expect(row_of(page, "video:42")).to_contain_text("10%")
    expect(connection_of(page)).to_have_text("Live")
    served.report("video:42", percent=20)
    expect(bar_of(page, "video:42")).to_have_attribute("aria-valuenow", "20")
    page.reload()
    expect(row_of(page, "video:42")).to_contain_text("20%")
