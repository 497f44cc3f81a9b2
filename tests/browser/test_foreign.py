"""During an outage something else answers in the gateway's place. Each bar of the page has its own
gateway, which is replaced by another answer: over each transport, before the first welcome, while
it is live, and when it connects again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .chromium import Complaints, Page
from .foreign import PAGES
from .proxy import Proxy
from .served import Served
from .site import serve_site
from .test_outages import LUCKY

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<link rel="icon" href="data:,">
<title>A shop</title>
<script type="module">
  // Without Web Locks each connection has a stream of its own; they are of different hosts.
  Object.defineProperty(navigator, 'locks', {{ value: undefined }});
  const {{ connect }} = await import('{gateway}/client.js');
  globalThis.seen = {{}};
  globalThis.connections = new Map();
  for (const bar of document.querySelectorAll('job-progress')) {{
    const name = bar.getAttribute('label');
    const own = (seen[name] = []);
    const connection = connect(bar.getAttribute('gateway'));
    connections.set(name, connection);
    const note = () => {{
      const {{ state, stopped, transport }} = connection.status();
      const read = (part) => bar.shadowRoot.querySelector(part).textContent;
      const texts = ['.figure', '.message', '.error', '.time'].map(read);
      const now = [state, stopped ? 'stopped' : '', transport, ...texts];
      if (own.at(-1)?.join() !== now.join()) own.push(now);
    }};
    connection.observe(note);
    const everything = {{ subtree: true, childList: true, characterData: true }};
    new MutationObserver(note).observe(bar.shadowRoot, everything);
    connection.watch('video:42', note);
  }}
</script>
{bars}
</html>
"""
NAMES = {name: f"127.0.1.{number}" for number, name in enumerate(PAGES, 1)}
INSTEAD = {NAMES[name]: page for name, page in PAGES.items()}
EVERY = {"websocket": slice(0, None, 3), "sse": slice(0, None, 2), "polling": slice(1, None, 2)}
"""Which of them are tried with a transport: each over HTTP once, as forty bars take their time."""


@pytest.fixture
def proxy(served: Served) -> Iterator[Proxy]:
    with Proxy(served.url, host="") as proxy:
        yield proxy


def expect_each(page: Page, condition: str) -> None:
    """Wait until the condition is true for the connection and the bar of each gateway. The page's
    clock runs faster."""
    expression = f"""
      Object.entries(seen).filter(([, all]) => !all.some(
        ([state, stopped, transport, figure, message, error, time]) => {condition}
      )).map(([name, all]) => [name, all.at(-1)])
    """
    for _ in range(300):
        page.clock.run_for(500)
        page.wait_for_timeout(200)
        if page.evaluate(expression) == []:
            break
    assert page.evaluate(expression) == []


LONG = 3_600
"""Seconds: however fast time passes, the job does not stall."""
FORGET = "for (const all of Object.values(seen)) all.splice(0, all.length - 1)"


@pytest.mark.parametrize("transport", ["websocket", "sse", "polling"])
def test_nothing_else_counts(
    complaints: Complaints, page: Page, served: Served, proxy: Proxy, transport: str
) -> None:
    complaints.expect("")
    served.report("video:42", percent=45, lease=LONG)
    proxy.refuse_upgrades = transport != "websocket"
    proxy.hold_streams = transport == "polling"
    names = dict(list(NAMES.items())[EVERY[transport]])
    bars = "".join(
        f'<job-progress job="video:42" label="{name}" gateway="http://{host}:{proxy.port}/ws">'
        "</job-progress>"
        for name, host in names.items()
    )
    page.add_init_script(LUCKY)
    page.clock.install()
    with serve_site(PAGE.format(gateway=served.url, bars=bars)) as site:
        proxy.instead = INSTEAD
        page.goto(site)
        page.wait_for_function(f"globalThis.connections?.size === {len(names)}")
        nothing_counts(page, "", "connecting…")
        page.evaluate(FORGET)
        proxy.instead = {}
        expect_each(page, f"state === 'live' && transport === '{transport}' && figure === '45%'")

        # While a gateway is in use: over HTTP there is another request, over a WebSocket none.
        page.evaluate(FORGET)
        proxy.instead = INSTEAD
        page.evaluate("for (const each of connections.values()) each.watch('video:43', () => {})")
        if transport == "websocket":
            page.clock.run_for(5_000)
            seen = page.evaluate("seen")
            assert {(entry[0], entry[3]) for each in seen.values() for entry in each} == {
                ("live", "45%")
            }
        proxy.cut()
        nothing_counts(page, "45%", "reconnecting…")
        page.evaluate(FORGET)
        served.report("video:42", percent=50, lease=LONG)
        proxy.instead = {}
        expect_each(page, "state === 'live' && figure === '50%'")


def nothing_counts(page: Page, figure: str, waiting: str) -> None:
    """Checks that each bar soon shows that it is waiting, and shows nothing else while it waits."""
    expect_each(page, f"state !== 'live' && figure === '{figure}' && time === '{waiting}'")
    page.evaluate(FORGET)
    for _ in range(40):  # each transport has been tried by then
        page.clock.run_for(1_000)
        page.wait_for_timeout(50)
    for name, seen in page.evaluate("seen").items():
        for state, stopped, _, *texts in seen:
            assert state in ("connecting", "offline"), (name, seen)
            assert (stopped, *texts) == ("", figure, "", "", waiting), (name, seen)
