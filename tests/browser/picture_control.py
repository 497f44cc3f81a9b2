"""The screenshots of docs/control.md and docs/recipes/lists.md.

`python -m tests.browser.picture_control`

Writes `docs/control.png` (a button before and after a request) and `docs/list.png` (a user's list),
and their dark versions: real elements of a real gateway.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any, Literal

import trio

from gateway import Gateway, MemoryBroker, serve_gateway
from gateway.auth.authenticator import Authenticator
from gateway.auth.origins import Origins
from gateway.model.state import Request, RequestUpdate

from .chromium import Page, expect, launched
from .picture import DOCS, STAND_STILL
from .site import serve_site

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<link rel="icon" href="data:,">
<title>Jobs</title>
<style>
  :root {{ color-scheme: {scheme} }}
  body {{ margin: 24px; display: grid; gap: 20px; font: 16px system-ui, sans-serif }}
</style>
<script type="module">
  import {{ configure }} from '{gateway}/client.js';
  configure({{ gateway: '{gateway}/ws' }});
</script>
{body}
"""
TRAININGS = ("running", "open", "silent", "refused", "cancelled")
CONTROL = "\n".join(
    f'<job-progress job="train:{name}" label="Training {number}" actions></job-progress>'
    for number, name in enumerate(TRAININGS, 1)
)
LIST = '<job-list prefix="user:7:" limit="4" actions></job-list>'


async def _live_through(gateway: Gateway, clock: list[float]) -> None:
    now = clock[0]
    for name in TRAININGS:
        for step in range(11):
            clock[0] = now - 200 + 19 * step
            done = (1 + TRAININGS.index(name)) * step
            await _report(gateway, f"train:{name}", done=done, total=60, unit="epochs")
    clock[0] = now
    ids = {}
    for name in TRAININGS[1:]:
        ids[name] = await _send_cancel(gateway, f"train:{name}")
    refusal = "the model is being saved"
    await _report(gateway, "train:refused", ack=ids["refused"], refused=refusal)
    await _report(gateway, "train:cancelled", ack=ids["cancelled"], status="cancelled")

    for number, job in enumerate(("import", "thumbnails", "export", "report", "backup", "mail")):
        clock[0] = now - 90 + 8 * number
        await _report(gateway, f"user:7:{job}", done=0, total=100, unit="files")
        clock[0] += 30
        end_status = {"backup": "succeeded", "import": "succeeded", "export": "failed"}.get(job)
        error = "no space left on the device" if end_status == "failed" else None
        done = 17 * number % 83 + 5
        more: dict[str, Any] = {"done": 100 if end_status == "succeeded" else done}
        more |= {} if end_status is None else {"status": end_status}
        await _report(gateway, f"user:7:{job}", **more, error=error)
    clock[0] = now


async def _report(gateway: Gateway, job: str, **update: Any) -> None:
    accepts = ("cancel",)
    lease = 2 if job == "train:silent" else 600
    await gateway.publish(job, accepts=accepts, lease=lease, **update)


async def _send_cancel(gateway: Gateway, job: str) -> str:
    request = Request(id=f"of-{job}", verb="cancel")
    await gateway.node.broker.publish(job, RequestUpdate(request=request))
    return request.id


def _ready(page: Page, name: str) -> None:
    if name == "control":
        expect(page.get_by_text("stopping…")).to_be_visible()
        expect(page.get_by_text("The worker does not answer.")).to_be_visible()
        expect(page.get_by_text("Refused:")).to_be_visible()
    else:
        expect(page.get_by_role("progressbar")).to_have_count(4)
        expect(page.get_by_role("button")).to_have_count(3)
        expect(page.get_by_text("2 more")).to_be_visible()


def _take(url: str) -> None:
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    with launched() as browser:
        for name, body in (("control", CONTROL), ("list", LIST)):
            for scheme in schemes:
                html = PAGE.format(gateway=url, body=body, scheme=scheme)
                with serve_site(html) as site:
                    page = browser.new_page(
                        viewport={"width": 800, "height": 300}, color_scheme=scheme
                    )
                    page.goto(site)
                    _ready(page, name)
                    page.evaluate(STAND_STILL)
                    suffix = "" if scheme == "light" else "-dark"
                    page.screenshot(path=DOCS / f"{name}{suffix}.png", full_page=True)
                    page.close()


async def _main() -> None:
    clock = [time.time()]
    broker = MemoryBroker(clock=lambda: clock[0], monotonic=lambda: clock[0])
    async with trio.open_nursery() as nursery:
        everyone = Authenticator(origins=Origins.parse("*"))
        serve = partial(serve_gateway, "127.0.0.1:0", broker, authenticator=everyone)
        gateway: Gateway = await nursery.start(serve)
        await _live_through(gateway, clock)
        clock[0] += 3  # the lease of one has expired
        await trio.sleep(1.5)  # until the node has noticed
        await trio.to_thread.run_sync(_take, gateway.url)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(_main)
