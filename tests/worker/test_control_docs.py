"""The programs of `docs/control.md` run."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from gateway import Job
from gateway.integrations.tasks import as_current_job

from .fake import FakePublisher

PAGE = (Path(__file__).parents[2] / "docs/control.md").read_text()
FIRST, SECOND, ASYNC, TASK = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def program_globals(fake: FakePublisher, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("PROGRESS_GATEWAY_URL", fake.url)
    program: dict[str, Any] = {}
    exec(FIRST, program)  # noqa: S102 - it is our own
    assert fake.updates[-1]["status"] == "succeeded"
    return program


def test_the_loop_example_can_be_cancelled(
    program_globals: dict[str, Any], fake: FakePublisher
) -> None:
    assert fake.updates[0]["accepts"] == ["cancel"]


def test_the_check_example_works(program_globals: dict[str, Any], fake: FakePublisher) -> None:
    exec(SECOND, program_globals)  # noqa: S102 - it is our own
    assert (fake.updates[-1]["job"], fake.updates[-1]["status"]) == ("import:7", "succeeded")


def test_the_async_example_is_cancelled(
    program_globals: dict[str, Any], fake: FakePublisher
) -> None:
    async def work() -> None:
        await asyncio.sleep(0)

    program_globals["work"] = work
    exec(ASYNC, program_globals)  # noqa: S102 - it is our own
    asyncio.run(program_globals["encode"]())
    assert (fake.updates[-1]["job"], fake.updates[-1]["status"]) == ("video:42", "succeeded")


def test_a_task_of_a_queue(program_globals: dict[str, Any], fake: FakePublisher) -> None:
    exec(TASK, program_globals)  # noqa: S102 - it is our own
    with Job("video:43") as job, as_current_job(job):
        program_globals["encode_frames"](43)
    assert fake.updates[-1]["done"] == 100
