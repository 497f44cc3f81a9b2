"""Runs of random seeds, of seeds that have failed before, and a test that a seed always gives the
same run. A regression is one line in `REGRESSIONS`. `python -m tests.simulation --start SEED
--seeds 1` prints its trace.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.simulation.runs import run
from tests.simulation.scenario import Fault, Scenario, draw

pytestmark = pytest.mark.filterwarnings(
    # The thread of a `Job` that another test left running gets the simulated clock, and ends.
    "ignore::pytest.PytestUnhandledThreadExceptionWarning"
)

ROOT = Path(__file__).parents[2]
IN_CI = os.environ.get("CI") == "true"
FRESH = int(os.environ.get("SIMULATION_SEEDS", "140" if IN_CI else "15"))
"""The number of new seeds in a run of the tests; their numbers are printed if one fails."""
MOST_SECONDS = 75.0
"""Seconds after which no other seed is begun, so that a slow machine runs fewer."""

REGRESSIONS: dict[str, Scenario] = {
    "never back: promoted with a copy from before the first node": Scenario(
        seed=202099,
        broker="redis",
        nodes=2,
        jobs=2,
        workers=("redis", "redis", "redis"),
        watchers=("websocket",) * 4,
        faults=(
            Fault(1.128, "failover", 4.17, 43),
            Fault(20.713, "failover", 9.507, 89, odds=0.1),
        ),
        history=20,
    ),
    "the end: a lease ran out after the last GET, which was no defect of the gateway": Scenario(
        seed=201138,
        broker="redis",
        nodes=2,
        jobs=3,
        workers=("curl", "http", "http"),
        watchers=("websocket", "get", "websocket", "websocket", "websocket"),
        faults=(
            Fault(2.98, "worker_kill", 0.264, 21),
            Fault(13.795, "worker_kill", 1.298, 1, odds=0.5),
        ),
        history=4,
    ),
    "never back: two primaries at once, which a killed node's sockets hid from the check": Scenario(
        seed=500004,
        broker="redis",
        nodes=2,
        jobs=2,
        workers=("http", "curl", "http"),
        watchers=("websocket", "poll", "list", "poll", "set"),
        faults=(
            Fault(15.099, "node_kill", 4.235, 92),
            Fault(17.426, "failover", 9.996, 40, odds=0.1),
        ),
        history=20,
        restless=True,
    ),
}
"""The seeds that have failed before, by the defect."""


def test_seeds_that_have_failed_before() -> None:
    for scenario in REGRESSIONS.values():
        outcome = run(scenario)
        assert outcome.violation is None, "\n".join([*outcome.trace[-200:], outcome.violation])


def seed_of_this_commit() -> int:
    """Returns a seed that depends on the commit, so that a failure can be repeated."""
    command = ["git", "rev-parse", "--short=7", "HEAD"]
    output = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT).stdout
    return int(output or "1", 16)


def test_new_seeds() -> None:
    start = int(os.environ.get("SIMULATION_START", seed_of_this_commit()))
    began = time.monotonic()
    for seed in range(start, start + FRESH):
        outcome = run(draw(seed, rare=False))
        assert outcome.violation is None, (
            f"seed {seed} of {start} and on: "
            f"python -m tests.simulation --common --start {seed} --seeds 1\n" + outcome.violation
        )
        if time.monotonic() - began > MOST_SECONDS:
            break


DIGESTS = """
import sys
from tests.simulation.scenario import draw
from tests.simulation.runs import run
print(*[run(draw(int(seed))).digest for seed in sys.argv[1:]])
"""


def test_a_seed_is_the_same_run_in_every_process() -> None:
    seeds = ["1", "23", "46"]  # without and with groups and sets
    digests = {
        subprocess.run(
            [sys.executable, "-c", DIGESTS, *order],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for hash_seed, order in (("1", seeds), ("99", seeds))
    }
    assert len(digests) == 1


def test_each_kind_of_fault_occurs() -> None:
    scenario = Scenario(
        seed=1,
        broker="redis",
        nodes=2,
        jobs=2,
        workers=("http", "redis"),
        watchers=("websocket", "sse", "get"),
        faults=(
            Fault(2.0, "link", 3.0, 0, "refuse"),
            Fault(6.0, "node_kill", 1.0, 1),
            Fault(9.0, "restart", 1.0),
        ),
    )
    outcome = run(scenario)
    assert outcome.violation is None, "\n".join([*outcome.trace[-200:], outcome.violation])
    trace = "\n".join(outcome.trace)
    signs = ("FAULT link refuse", "node1 is gone", "node1 serves", "unavailable: ", "succeeded")
    for sign in signs:
        assert sign in trace, trace
