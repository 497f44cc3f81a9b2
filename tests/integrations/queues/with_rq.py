from __future__ import annotations

import os
from typing import Any

from redis import Redis
from rq import Retry

from gateway.integrations.rq import Queue, Worker
from gateway.integrations.tasks import named

from . import work

redis = Redis(unix_socket_path=os.environ["BROKER_SOCKET"])
queue = Queue(connection=redis)


@named("video:{video}")
def encode(video: int) -> None:
    work.encode(video)


@named("broken")
def broken() -> None:
    work.fail()


@named("flaky")
def flaky(mark: str) -> None:
    work.flaky(mark)


@named("returned", failed=lambda result: result["error"])
def returned() -> dict[str, str]:
    return {"error": "no space"}


@named("threaded")
def threaded() -> None:
    work.from_a_helper_thread()


@named("stopped", accepts={"cancel"})
def stopped() -> None:
    work.until_cancelled()


@named("endless")
def endless() -> None:
    work.endless()


@named("dies")
def dies() -> None:
    work.die()


def submit(name: str, *args: Any) -> None:
    retry = Retry(max=1) if name in ("flaky", "stopped") or "again" in args else None
    queue.enqueue(
        globals()[name], *[argument for argument in args if argument != "again"], retry=retry
    )


def run() -> None:
    Worker([queue], connection=redis).work()
