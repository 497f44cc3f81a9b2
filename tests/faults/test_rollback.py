"""A Redis that loses writes while clients read: a few rounds of `rollback` (which can also be run
for longer), and tests of `taken_back`."""

from __future__ import annotations

import random
from typing import Any

import pytest

from .readers import READERS, Reader, Reading, taken_back
from .rollback import open_setup, play_round


@pytest.mark.parametrize(("nodes", "delay"), [(1, 0.02), (2, 0.0), (3, 0.005)])
async def test_no_state_is_taken_back(nodes: int, delay: float) -> None:
    seed = random.randrange(10**9)
    async with open_setup(nodes, delay) as setup:
        problems = await play_round(setup, list(READERS), seed)
        problems += [line for node in setup.nodes for line in node.errors]
    assert not problems, "\n".join(problems[:20])


def state(status: str = "running", **fields: Any) -> dict[str, Any]:
    return {"status": status, "attempt": 1, **fields}


@pytest.mark.parametrize(
    ("readings", "found"),
    [
        ([(1, 1, state(percent=10)), (1, 2, state("succeeded", percent=100))], None),
        ([(1, 5, state("failed")), (2, 1, state("failed")), (2, 2, state(attempt=2))], None),
        ([(1, 5, state(percent=9)), (1, 5, state(percent=8))], "two states at one position"),
        ([(1, 5, state()), (1, 4, state())], "a lower position"),
        ([(2, 1, state()), (1, 9, state())], "a lower position"),
        ([(1, 5, state("failed")), (2, 1, state("running"))], "an end taken back"),
        ([(1, 5, state("failed")), (2, 1, state("succeeded"))], "an end taken back"),
        ([(1, 5, state(percent=9)), (2, 1, state(percent=8))], "percent fell"),
        ([(1, 5, state(attempt=2)), (2, 1, state())], "an earlier attempt"),
        ([(1, 5, state()), (0, 0, None)], "unknown"),
    ],
)
def test_a_state_that_was_taken_back_is_detected(
    readings: list[tuple[int, int, dict[str, Any] | None]], found: str | None
) -> None:
    reader = Reader("get", "r", ["a"], [])
    reader.readings = [Reading(0.0, "a", *reading) for reading in readings]
    problems = list(taken_back([reader]))
    assert bool(problems) == (found is not None)
    assert found is None or any(found in problem for problem in problems)
