from __future__ import annotations

import os
from typing import Any

from huey import RedisHuey

from gateway.integrations.huey import named, report_tasks

from . import work

huey = RedisHuey("tests", url=f"unix://{os.environ['BROKER_SOCKET']}")
report_tasks(huey)


@huey.task()
@named("video:{video}")
def encode(video: str) -> None:
    work.encode(int(video))


@huey.task()
@named("broken")
def broken() -> None:
    work.fail()


@huey.task(retries=1)
@named("flaky")
def flaky(mark: str) -> None:
    work.flaky(mark)


@huey.task()
@named("threaded")
def threaded() -> None:
    work.from_a_helper_thread()


@huey.task(retries=1)
@named("stopped", accepts={"cancel"})
def stopped() -> None:
    work.until_cancelled()


def submit(name: str, *args: Any) -> None:
    globals()[name](*args)


def run() -> None:
    huey.create_consumer(workers=1, initial_delay=0.05, check_worker_health=False).run()
