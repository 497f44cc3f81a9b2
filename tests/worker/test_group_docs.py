"""The programs of `docs/groups.md` run."""

from __future__ import annotations

import re
from collections.abc import Callable
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import pytest

from gateway.model.state import Children, State

from .recorder import Recorder

PAGE = (Path(__file__).parents[2] / "docs/groups.md").read_text()
MAP, POOL, BY_NAME, TQDM, _CELERY, REQUEST = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def end_of(module_recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], State]:
    monkeypatch.setenv("PROGRESS_GATEWAY_URL", module_recorder.url)
    # A real pool would import this program again in each process.
    monkeypatch.setattr("multiprocessing.Pool", ThreadPool)
    return lambda job: module_recorder.states(job)[-1]


def test_the_documented_programs_work(
    end_of: Callable[[str], State], module_recorder: Recorder
) -> None:
    program: dict[str, Any] = {"__name__": "__main__"}
    for text in (MAP, POOL, BY_NAME, TQDM, REQUEST):
        exec(text, program)  # noqa: S102 - it is our own
    for job in ("batch:1", "batch:2", "batch:3", "train:8"):
        state = end_of(job)
        assert (state.status, state.percent) == ("succeeded", 100)
    assert end_of("batch:1").children == Children(3, succeeded=3)
    assert end_of("batch:1/3").status == "succeeded"
    assert program["sizes"] == [5, 5, 5]
    assert module_recorder.states("batch:6", lambda state: state.accepts == ("cancel",))
    program["job"].cancel()
    assert end_of("batch:6").status == "cancelled"
