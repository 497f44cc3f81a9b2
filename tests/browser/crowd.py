"""A gateway with as many jobs as a test wants, in a process of its own:
`python -m tests.browser.crowd JOBS HERTZ ENDED`.

`JOBS` jobs report `HERTZ` times a second each, straight into its broker, and `ENDED` more
have ended. It prints its address, and runs until it is killed.
"""

from __future__ import annotations

import sys
from functools import partial

import trio

from gateway import Gateway, serve_gateway
from gateway.auth.opening import open_gate
from gateway.auth.origins import Origins


async def _work(gateway: Gateway, number: int, hertz: float) -> None:
    done = 0
    while True:
        done += 1
        await gateway.publish(f"busy:{number:04}", done=done, total=1_000, unit="rows")
        await trio.sleep(1 / hertz)


async def main(jobs: int, hertz: float, ended: int) -> None:
    async with trio.open_nursery() as nursery:
        serve = partial(serve_gateway, "127.0.0.1:0", gate=open_gate(origins=Origins(every=True)))
        gateway: Gateway = await nursery.start(serve)
        for number in range(ended):
            error = {"status": "failed", "error": "no disk"} if number % 10 == 0 else {}
            await gateway.publish(f"old:{number:04}", **({"status": "succeeded"} | error))
        for number in range(jobs):
            nursery.start_soon(_work, gateway, number, hertz)
        sys.stdout.write(f"{gateway.url}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
