from __future__ import annotations

import asyncio
import os
from typing import Any

from arq import Retry, Worker, create_pool, func
from arq.connections import RedisSettings
from arq.jobs import Job

from gateway.integrations.arq import enqueue, task

from . import work

SETTINGS = RedisSettings(unix_socket_path=os.environ["BROKER_SOCKET"])


@task("video:{video}")
async def encode(ctx: dict[str, Any], video: str) -> None:
    work.encode(int(video))


@task("broken")
async def broken(ctx: dict[str, Any]) -> None:
    work.fail()


@task("flaky")
async def flaky(ctx: dict[str, Any], mark: str) -> None:
    try:
        work.flaky(mark)
    except OSError as error:
        raise Retry from error


@task("returned", failed=lambda result: result["error"])
async def returned(ctx: dict[str, Any]) -> dict[str, str]:
    return {"error": "no space"}


@task("threaded")
async def threaded(ctx: dict[str, Any]) -> None:
    work.from_a_helper_thread()


@task("stopped", accepts={"cancel"})
async def stopped(ctx: dict[str, Any]) -> None:
    work.until_cancelled()


@task("endless")
async def endless(ctx: dict[str, Any]) -> None:
    await asyncio.Event().wait()


@task("once")
async def once(ctx: dict[str, Any]) -> None:
    await asyncio.Event().wait()


@task("late")
async def late(ctx: dict[str, Any]) -> None:
    await asyncio.Event().wait()


async def _submit(name: str, *args: Any) -> None:
    pool = await create_pool(SETTINGS)
    if name == "abort":
        await Job(args[0], pool).abort(timeout=None)
    else:
        await enqueue(pool, globals()[name], *args, _job_id=" ".join((name, *args)))
    await pool.aclose()


def submit(name: str, *args: Any) -> None:
    asyncio.run(_submit(name, *args))


def run() -> None:
    functions: Any = [
        *(encode, broken, flaky, returned, stopped, threaded, endless),
        func(once, name="once", max_tries=1),
        func(late, name="late", timeout=0.1, max_tries=1),
    ]
    options: Any = {"redis_settings": SETTINGS, "poll_delay": 0.05, "allow_abort_jobs": True}
    Worker(functions, **options).run()
