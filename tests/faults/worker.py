"""A worker process: `worker.py JOB PACE LEASE SKEW`, reporting to `PROGRESS_GATEWAY_URL`.

It makes a step every PACE seconds until a line on stdin orders it to end (`succeed`, `fail`,
`cancel`). When the gateway has the end, it prints what it has reported, as JSON. Its clock is SKEW
seconds off. It exits when its stdin is closed.
"""

from __future__ import annotations

import json
import select
import sys
import time

PATIENCE = 60.0
"""Seconds to wait until the gateway has the end: longer than any fault."""


def shift_clock(seconds: float) -> None:
    """Shifts this process's wall clock, for all functions with which Python reads it."""
    now, now_ns = time.time, time.time_ns
    time.time = lambda: now() + seconds
    time.time_ns = lambda: now_ns() + int(seconds * 1e9)


def main() -> None:
    name, pace, lease, skew = sys.argv[1], *map(float, sys.argv[2:])
    shift_clock(skew)
    from gateway import Job  # now, so that nothing has read the clock before

    slowest, done = 0.0, 0
    job = Job(name, unit="steps", lease=lease, timeout=PATIENCE)
    while not select.select([sys.stdin], [], [], pace)[0]:
        done += 1
        began_at = time.monotonic()
        job.update(done=done, message=f"step {done}")
        slowest = max(slowest, time.monotonic() - began_at)
    match sys.stdin.readline().strip():
        case "succeed":
            job.succeed(f"after {done} steps")
        case "fail":
            job.fail(f"told to, after {done} steps")
        case _:
            job.cancel()
    report = {
        "status": job.status,
        "done": done,
        "delivered": job.wait(),
        "attempt": job.attempt,
        "superseded": job.superseded,
        "slowest": slowest,
    }
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    main()
