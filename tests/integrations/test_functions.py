"""The decorator: each call of a function is a job."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from gateway.integrations.functions import current_job, job
from tests.worker.fake_gateway import FakeGateway


def end(fake_gateway: FakeGateway, name: str) -> dict[str, Any]:
    fake_gateway.wait_for(lambda _: fake_gateway.ends(name))
    return fake_gateway.ends(name)[0].fields


def test_a_call_is_a_job(fake_gateway: FakeGateway) -> None:
    @job("video:{video}:{preset}", url=fake_gateway.url, unit="frames")
    def encode(video: int, preset: str = "fast") -> str:
        for _ in current_job().track("abc"):
            pass
        return "a result"

    assert encode(42) == "a result"
    fields = end(fake_gateway, "video:42:fast")
    assert (fields["status"], fields["done"], fields["unit"]) == ("succeeded", 3, "frames")
    with pytest.raises(LookupError):
        current_job()


def test_an_exception_is_raised_unchanged(fake_gateway: FakeGateway) -> None:
    @job("a", url=fake_gateway.url)
    def fail() -> None:
        raise ValueError("bad frame")

    with pytest.raises(ValueError, match="bad frame"):
        fail()
    assert end(fake_gateway, "a")["error"] == "ValueError: bad frame"


def test_an_async_function_is_reported_and_cancelled(fake_gateway: FakeGateway) -> None:
    @job("a:{name}", url=fake_gateway.url)
    async def wait(name: str, until: asyncio.Event) -> None:
        current_job().update(message=name)
        await until.wait()

    async def main() -> None:
        never, now = asyncio.Event(), asyncio.Event()
        now.set()
        waiting = asyncio.ensure_future(wait("waits", never))
        await wait("ends", now)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(main())
    assert (end(fake_gateway, "a:ends")["status"], end(fake_gateway, "a:ends")["message"]) == (
        "succeeded",
        "ends",
    )
    assert end(fake_gateway, "a:waits")["status"] == "cancelled"


def test_current_job_works_in_a_helper_thread_of_a_single_job(fake_gateway: FakeGateway) -> None:
    job_ids: list[str | None] = []

    def look() -> None:
        try:
            job_ids.append(current_job().name)
        except LookupError:
            job_ids.append(None)

    def look_in_a_thread() -> None:
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()

    @job("inner", url=fake_gateway.url)
    def inner() -> None:
        look_in_a_thread()
        look()

    @job("outer", url=fake_gateway.url)
    def outer() -> None:
        look_in_a_thread()
        inner()
        look()

    outer()
    assert job_ids == ["outer", None, "inner", "outer"]


def test_arguments_that_give_an_invalid_id_raise(fake_gateway: FakeGateway) -> None:
    @job("video:{video}", url=fake_gateway.url)
    def encode(video: str) -> None: ...

    with pytest.raises(ValueError, match="job id"):
        encode("a b")
