"""A gateway with as many jobs as a test wants, in a process of its own:
`python -m tests.browser.crowd JOBS HERTZ ENDED`.

`JOBS` jobs report `HERTZ` times a second each, straight into its broker, and `ENDED` more
have ended. It prints its address, and runs until it is killed.
"""

from __future__ import annotations

import sys
from functools import partial

import trio

from gateway import Gateway, UpdateFields, serve_gateway
from gateway.auth.factory import open_authenticator
from gateway.auth.origins import Origins


async def _work(gateway: Gateway, number: int, hertz: float) -> None:
    done = 0
    while True:
        done += 1
        await gateway.publish(f"busy:{number:04}", done=done, total=1_000, unit="rows")
        await trio.sleep(1 / hertz)


async def main(jobs: int, hertz: float, ended: int) -> None:
    async with trio.open_nursery() as nursery:
        serve = partial(
            serve_gateway,
            "127.0.0.1:0",
            authenticator=open_authenticator(origins=Origins(every=True)),
        )
        gateway: Gateway = await nursery.start(serve)
        for number in range(ended):
            end: UpdateFields = {"status": "succeeded"}
            if number % 10 == 0:
                end = {"status": "failed", "error": "no disk"}
            await gateway.publish(f"old:{number:04}", **end)
        for number in range(jobs):
            nursery.start_soon(_work, gateway, number, hertz)
        sys.stdout.write(f"{gateway.url}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
