"""The element, the client and the gateway's page in a real Firefox."""

from __future__ import annotations

import secrets
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from gateway.auth.keys import read_keys
from gateway.auth.tokens import sign_token
from tests.browser.bundled import MODULES, WEB, bundle
from tests.browser.foreign import PAGES
from tests.browser.proxy import Proxy
from tests.browser.served import Served
from tests.browser.site import serve_site

from .driver import firefox

SECRET = secrets.token_urlsafe(32)
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<link rel="icon" href="data:,">
<title>A shop</title>
<script type="module" src="{gateway}/client.js"></script>
<main><h1>Orders</h1>{bars}</main>
</html>
"""
BAR = '<job-progress job="{job}" label="{job}" actions></job-progress>'
TEXT = """document.querySelector('[job="{job}"]').shadowRoot.querySelector('{part}').textContent"""
WIDTH = """(() => {
  const root = document.querySelector('[job="video:42"]').shadowRoot;
  const [track, bar] = [root.querySelector('.track'), root.querySelector('.bar')];
  return Math.round(100 * bar.getBoundingClientRect().width / track.getBoundingClientRect().width);
})()"""
SIZES = ((1280, 800), (768, 1024), (390, 844), (320, 568))
AXE = """axe.run({ resultTypes: ['violations'] }).then(({ violations }) => violations.map(
  ({ id, nodes }) => [id, nodes.map(({ target, failureSummary }) => [target, failureSummary])]))"""


def text(part: str, job: str = "video:42") -> str:
    return TEXT.format(part=part, job=job)


@pytest.mark.parametrize("transport", ["websocket", "sse"])
async def test_a_bar_in_the_html_follows_its_job(tmp_path: Path, transport: str) -> None:
    with ExitStack() as stack:
        served = stack.enter_context(Served())
        gateway = served.url
        if transport == "sse":
            proxy = stack.enter_context(Proxy(served.url))
            proxy.refuse_upgrades = True
            gateway = proxy.url
        site = stack.enter_context(
            serve_site(PAGE.format(gateway=gateway, bars=BAR.format(job="video:42")))
        )
        served.report("video:42", percent=37, message="encoding")
        async with firefox(tmp_path) as tab:
            await tab.goto(site)
            await tab.wait_for_value(text(".figure"), "37%")
            await tab.wait_for_value(text(".message"), "encoding")
            await tab.wait_for_value(WIDTH, 37)
            served.report("video:42", percent=40)
            await tab.wait_for_value(text(".figure"), "40%")
            await tab.wait_for_value(WIDTH, 40)
            served.report("video:42", status="failed", error="disk full")
            await tab.wait_for_value(text(".error"), "disk full")
            served.report("video:42", start=True, percent=5)
            await tab.wait_for_value(text(".attempt"), "attempt 2")
            status = f"import('{gateway}/client.js').then((it) => it.connect().status())"
            connection_status = await tab.evaluate(status)
            assert (connection_status["transport"], connection_status["violations"]) == (
                transport,
                0,
            )
            foreign = [
                complaint
                for complaint in tab.complaints
                if "can’t establish a connection" not in complaint
            ]
            assert foreign == []


async def test_a_token_is_sent_and_a_wrong_one_is_explained_once(tmp_path: Path) -> None:
    right, wrong = (
        sign_token(key, now=time.time(), ttl=600, watch=["video:*"], publish=["*"])
        for secret in (SECRET, f"another-{SECRET}")
        for key in read_keys(secret, source="the test")
    )
    with ExitStack() as stack:
        served = stack.enter_context(Served("--secret", SECRET, token=right))
        page = PAGE.format(gateway=served.url, bars=BAR.format(job="video:42"))
        page = page.replace("client.js", 'client.js" data-token-url="/token')
        good, bad = (
            stack.enter_context(serve_site(page, scripts={"/token": token}))
            for token in (right, wrong)
        )
        served.report("video:42", percent=37)
        async with firefox(tmp_path) as tab:
            await tab.goto(good)
            await tab.wait_for_value(text(".figure"), "37%")
            served.report("video:42", percent=40)
            await tab.wait_for_value(text(".figure"), "40%")
            assert tab.complaints == []
            await tab.goto(bad)
            await tab.wait_for_value(text(".time"), "not connected")
            why = "no key here matches the token's signature: is it the same secret?"
            refusals = [complaint for complaint in tab.complaints if "closed with" in complaint]
            assert [refusal.partition("closed with 4500: ")[2] for refusal in refusals] == [why]


async def test_a_login_during_an_outage_works_after_it(tmp_path: Path) -> None:
    """Firefox does not load a module again that it could not load once."""
    (key,) = read_keys(SECRET, source="the test")
    token = sign_token(key, now=time.time(), ttl=600, watch=["video:*"], publish=["*"])
    with ExitStack() as stack:
        served = stack.enter_context(Served("--secret", SECRET, token=token))
        proxy = stack.enter_context(Proxy(served.url))
        site = stack.enter_context(serve_site(PAGE.format(gateway=proxy.url, bars="")))
        client = f"import('{proxy.url}/client.js')"
        served.report("video:42", percent=37)
        async with firefox(tmp_path) as tab:
            await tab.goto(site)
            await tab.wait_for_value("customElements.get('job-progress') !== undefined", True)
            proxy.instead = {"127.0.0.1": PAGES["index.html"]}
            proxy.cut()
            await tab.run(
                f"""
                globalThis.states = [];
                {client}.then(({{ configure, connect }}) => {{
                  configure({{ token: () => '{token}' }});
                  connect().observe(({{ state }}) => states.push(state));
                  document.querySelector('main').innerHTML = `{BAR.format(job="video:42")}`;
                }});"""
            )
            await tab.wait_for_value(
                "states.filter((state) => state === 'offline').length > 1", True
            )
            proxy.instead = {}
            await tab.wait_for_value(text(".figure"), "37%")


START = """
import { configure } from 'progress-gateway';
import 'progress-gateway/element';

globalThis.start = (settings) => {
  configure(settings);
  document.querySelector('main').innerHTML = `<job-progress job="video:42"></job-progress>`;
};
"""


@pytest.mark.parametrize("part", ["tokens", "http-transports"])
async def test_a_part_of_a_bundle_that_could_not_be_loaded_is_loaded_later(
    tmp_path: Path, part: str
) -> None:
    """The part is on the application's own server, whose URLs the client does not know."""
    (key,) = read_keys(SECRET, source="the test")
    token = sign_token(key, now=time.time(), ttl=600, watch=["video:*"], publish=["*"])
    (tmp_path / "entry.js").write_text(START)
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "progress-gateway").symlink_to(WEB)
    built = tmp_path / "built"
    bundle(tmp_path / "entry.js", "--format=esm", "--splitting", f"--outdir={built}")
    scripts = {f"/{path.name}": path.read_text("utf-8") for path in built.iterdir()}
    page = PAGE.format(gateway="", bars="").replace("/client.js", "/entry.js")
    with ExitStack() as stack:
        served = stack.enter_context(Served("--secret", SECRET, token=token))
        gateway = stack.enter_context(Proxy(served.url))
        gateway.refuse_upgrades = part == "http-transports"
        site = stack.enter_context(Proxy(stack.enter_context(serve_site(page, scripts=scripts))))
        served.report("video:42", percent=37)
        profile = tmp_path / "profile"
        profile.mkdir()
        async with firefox(profile) as tab:
            await tab.goto(site.url)
            await tab.wait_for_value("typeof start", "function")
            if part == "http-transports":  # the module for tokens is there
                await tab.run(f"start({{ gateway: '{served.url}/ws', token: '{token}' }})")
                await tab.wait_for_value(text(".figure"), "37%")
            site.instead = {"127.0.0.1": b""}
            await tab.run(f"start({{ gateway: '{gateway.url}/ws', token: '{token}' }})")
            await tab.wait_for_value(
                "document.querySelector('job-progress').hasAttribute('stale')", True
            )
            waited = (
                f"performance.getEntriesByType('resource').some((it) => /{part}-/.test(it.name))"
            )
            await tab.wait_for_value(waited, True)
            site.instead = {}
            # After a WebSocket has worked, four attempts of a WebSocket precede the next one of
            # the fallback.
            await tab.wait_for_value(text(".figure"), "37%", within=120)


async def test_axe_finds_nothing_wrong_with_the_elements_and_the_page(tmp_path: Path) -> None:
    axe = MODULES / "axe-core" / "axe.min.js"
    if not axe.exists():
        pytest.skip("needs the client's development packages: cd web && npm install")
    with ExitStack() as stack:
        served = stack.enter_context(Served())
        served.report("a:running", percent=37, message="encoding", accepts=["cancel"])
        served.report("a:failed", status="failed", error="Traceback:\n  line 3\nValueError: no")
        served.report("a:succeeded", status="succeeded")
        bars = "".join(
            BAR.format(job=job) for job in ("a:running", "a:failed", "a:succeeded", "a:none")
        )
        bars += '<job-list prefix="a:" limit="2"></job-list><job-list prefix="b:">None.</job-list>'
        site = stack.enter_context(serve_site(PAGE.format(gateway=served.url, bars=bars)))
        async with firefox(tmp_path) as tab:
            for url in (site, served.url, f"{served.url}/?job=a:failed"):
                await tab.goto(url)
                await tab.wait_for_value(text(".figure", "a:succeeded"), "Succeeded")
                await tab.wait_for_value(text("button", "a:running"), "Stop")
                await tab.run(axe.read_text("utf-8"))
                for width, height in SIZES:
                    await tab.resize(width, height)
                    assert await tab.evaluate(AXE) == [], f"{url} {width}x{height}"
            assert tab.complaints == []


async def test_the_gateways_page_shows_jobs_and_their_details(tmp_path: Path) -> None:
    with Served() as served:
        served.report("video:42", percent=37, message="encoding")
        served.report("import:1", status="failed", error="disk full")
        async with firefox(tmp_path) as tab:
            await tab.goto(served.url)
            await tab.wait_for_value(text(".figure"), "37%")
            await tab.wait_for_value(text(".error", "import:1"), "disk full")
            served.report("video:42", percent=40)
            served.report("video:43", percent=1)
            await tab.wait_for_value(text(".figure"), "40%")
            await tab.wait_for_value(text(".figure", "video:43"), "1%")
            await tab.run("""document.querySelector('[data-job="import:1"]').click()""")
            await tab.wait_for_value(
                "document.querySelector('dialog[open] h2').textContent", "import:1"
            )
            assert tab.complaints == []
