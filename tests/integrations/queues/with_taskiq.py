from __future__ import annotations

import asyncio
import os
from typing import Any

from taskiq import SimpleRetryMiddleware
from taskiq.receiver import Receiver
from taskiq_redis import ListQueueBroker

from gateway.integrations.taskiq import JobMiddleware, named

from . import work

# redis-py 8.1 stops waiting for a response after 5 s, but taskiq waits until there is a task.
broker = ListQueueBroker(
    f"unix://{os.environ['BROKER_SOCKET']}", socket_timeout=None
).with_middlewares(JobMiddleware(), SimpleRetryMiddleware(default_retry_count=2))


@broker.task
@named("video:{video}")
async def encode(video: str) -> None:
    work.encode(int(video))


@broker.task
@named("broken")
async def broken() -> None:
    work.fail()


@broker.task(retry_on_error=True)
@named("flaky")
async def flaky(mark: str) -> None:
    work.flaky(mark)


@broker.task
@named("returned", failed=lambda result: result["error"])
async def returned() -> dict[str, str]:
    return {"error": "no space"}


@broker.task
@named("threaded")
async def threaded() -> None:
    work.from_a_helper_thread()


@broker.task(retry_on_error=True)
@named("stopped", accepts={"cancel"})
async def stopped() -> None:
    work.until_cancelled()


async def _submit(name: str, *args: Any) -> None:
    await broker.startup()
    await globals()[name].kiq(*args)
    await broker.shutdown()


async def _run() -> None:
    broker.is_worker_process = True
    await broker.startup()
    await Receiver(broker, max_async_tasks=1).listen(asyncio.Event())


def submit(name: str, *args: Any) -> None:
    asyncio.run(_submit(name, *args))


def run() -> None:
    asyncio.run(_run())
