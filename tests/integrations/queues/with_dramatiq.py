from __future__ import annotations

import os
import signal
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from gateway.integrations.dramatiq import JobMiddleware, named

from . import work

broker = RedisBroker(url=f"unix://{os.environ['BROKER_SOCKET']}")
broker.add_middleware(JobMiddleware())
dramatiq.set_broker(broker)


@dramatiq.actor
@named("video:{video}")
def encode(video: str) -> None:
    work.encode(int(video))


@dramatiq.actor(max_retries=0)
@named("broken")
def broken() -> None:
    work.fail()


@dramatiq.actor(max_retries=1, min_backoff=10)
@named("flaky")
def flaky(mark: str) -> None:
    work.flaky(mark)


@dramatiq.actor
@named("returned", failed=lambda result: result["error"])
def returned() -> dict[str, str]:
    return {"error": "no space"}


@dramatiq.actor
@named("threaded")
def threaded() -> None:
    work.from_a_helper_thread()


@dramatiq.actor(max_retries=1, min_backoff=10)
@named("stopped", accepts={"cancel"})
def stopped() -> None:
    work.until_cancelled()


def submit(name: str, *args: Any) -> None:
    globals()[name].send(*args)


def run() -> None:
    worker = dramatiq.Worker(broker, worker_threads=1, worker_timeout=100)
    worker.start()
    signal.sigwait([signal.SIGTERM])
    worker.stop()
