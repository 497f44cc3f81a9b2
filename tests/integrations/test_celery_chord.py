"""A chord of some hundred tasks behind two nodes on one Redis, while workers are killed.

However the tasks are retried, delivered again and killed, the group ends, and its counts agree with
the states of its children. Celery's workers, the nodes and the Redis are real; each node has a
client that checks that it misses no event.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import trio
from attrs import define

from tests.brokers.redis.server import Server, redis_server
from tests.cli.conftest import address
from tests.cli.processes import GATEWAY, Running, clean_environment
from tests.e2e.client import Follower, is_final, open_client

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
APP = "tests.integrations.chord_tasks"
PATIENCE = 60.0
"""Seconds for the whole test: far more than it needs."""
WORKER = [
    sys.executable, "-m", "celery", "-A", APP, "worker", "--pool", "prefork", "--concurrency", "2",
    "--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "WARNING",
]  # fmt: skip


@define
class ChordSetup:
    """Two nodes, and the environment of the workers of each."""

    redis: Server
    nodes: list[str]
    environments: list[dict[str, str]]

    async def publish(self, statement: str) -> None:
        """Executes code in a process that has the Celery app."""
        code = f"from {APP} import *\n{statement}"
        await trio.run_process([sys.executable, "-c", code], env=self.environments[0])

    def start_worker(self, number: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(WORKER, env=self.environments[number], process_group=0)

    def get(self, path: str, *, node: int = 0) -> Any:
        with urlopen(self.nodes[node] + path, timeout=PATIENCE) as answer:  # noqa: S310 - ours
            return json.load(answer)

    def children(self, group: str, *, node: int) -> dict[str, dict[str, Any]]:
        """Returns the states of all jobs in a group, as a node lists them."""
        states: dict[str, dict[str, Any]] = {}
        path = f"/api/jobs?prefix={group}/&limit=100"
        page = self.get(path, node=node)
        while True:
            states |= {row["job"]: row["state"] for row in page["jobs"]}
            if page.get("next") is None:
                return states
            page = self.get(f"{path}&after={page['next']}", node=node)


@pytest.fixture
async def setup() -> AsyncIterator[ChordSetup]:
    redis = Server(redis_server())
    env = {"PROGRESS_GATEWAY_REDIS": redis.url}
    serve = (*GATEWAY, "serve", "--bind", "127.0.0.1:0")
    with Running(*serve, env=env) as one, Running(*serve, env=env) as two:
        nodes = [address(node) for node in (one, two)]
        common = {
            "BROKER_URL": f"redis+socket://{redis.socket}",
            "RESULT_URL": f"redis+socket://{redis.socket}",
            "MARKS": str(redis.socket),
            "PYTHONPATH": str(ROOT),
        }
        yield ChordSetup(
            redis,
            nodes,
            [clean_environment(PROGRESS_GATEWAY_URL=url, **common) for url in nodes],
        )
    redis.close()


Workers = list[subprocess.Popen[bytes]]


@pytest.fixture
def workers(setup: ChordSetup) -> Iterator[Workers]:
    """A client for each node."""
    workers = [setup.start_worker(number) for number in (0, 1)]
    yield workers
    for worker in workers:
        if worker.poll() is None:
            os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()


async def wait_for_mark(setup: ChordSetup, number: int) -> tuple[int, int]:
    """Returns the id of the process that works on a part that waits, and its worker."""
    while True:
        mark = setup.redis.client.hget("marks", str(number))
        if mark:
            child, worker = map(int, mark.split())
            return child, worker
        await trio.sleep(0.02)


async def follow(setup: ChordSetup, group: str, node: int) -> None:
    """Watches as a client of a node, until the group has ended."""
    follower, highest = Follower(), (0, 0.0)
    port = int(setup.nodes[node].rpartition(":")[2])
    async with open_client(port, patience=PATIENCE) as client:
        await client.receive_type("welcome")
        await client.request("subscribe", jobs=[group])
        while True:
            follower.take(await client.receive_type("progress"))
            state = follower.states[group]
            if state is None:
                continue
            reached = state["attempt"], state.get("percent", 0)
            assert reached >= highest
            highest = reached
            if is_final(state):
                assert state == setup.get(f"/api/jobs/{group}", node=node)["state"]
                return


def check(setup: ChordSetup, group: str) -> dict[str, Any]:
    """Checks that both nodes show the same counts for the ended group, and that the states of its
    children agree with them."""
    state: dict[str, Any] = setup.get(f"/api/jobs/{group}")["state"]
    for node in (0, 1):
        assert setup.get(f"/api/jobs/{group}", node=node)["state"] == state
        counts = Counter(child["status"] for child in setup.children(group, node=node).values())
        shown = {status: n for status, n in state["children"].items() if n}
        assert shown == counts | {"expected": counts.total()}
    return state


async def test_a_chord_with_retries_and_killed_workers(setup: ChordSetup, workers: Workers) -> None:
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            for node in (0, 1):
                nursery.start_soon(follow, setup, "chord", node)
            many = "[*parts(1, 99), part.s(1001, waits=True), *parts(100, 100), "
            many += "part.s(1002, waits=True), *parts(200, 101)]"
            await setup.publish(f"start_group('chord', chord({many}, total.s()))")
            child, _ = await wait_for_mark(setup, 1001)
            os.kill(child, signal.SIGKILL)  # a process of a pool
            _, worker = await wait_for_mark(setup, 1002)
            # Celery loses a task that a worker is fetching when it is killed (it is taken from the
            # queue before it is noted as unacknowledged), so first all others end.
            while setup.get("/api/jobs/chord")["state"]["children"]["succeeded"] < 301:
                await setup.publish("redeliver_tasks_of_killed_workers()")
            os.killpg(worker, signal.SIGKILL)  # a whole worker, with its pool
            while not is_final(setup.get("/api/jobs/chord")["state"]):
                await setup.publish("redeliver_tasks_of_killed_workers()")
    state = check(setup, "chord")
    assert (state["status"], state["children"]["succeeded"]) == ("succeeded", 303)
    attempts = Counter(child["attempt"] for child in setup.children("chord", node=0).values())
    assert attempts.keys() >= {1, 2, 3}


CANVASES = {
    "header": "chord([*parts(1, 20), broken.s(7)], total.s())",
    "chain": "chain(part.s(1), broken.si(2), part.si(3), part.si(4))",
    "both": "chain(group(part.s(1), broken.s(2)), total.s(), part.si(3), group(part.si(4)))",
    "killed": "chain(dies.si(1), part.si(2), part.si(3))",
}


def counted(state: dict[str, Any]) -> list[int]:
    return [state["children"][status] for status in ("succeeded", "failed", "cancelled")]


async def test_tasks_that_will_never_run_are_cancelled(setup: ChordSetup, workers: Workers) -> None:
    """Celery sends no signal for the body of a chord whose header failed, nor for the tasks after a
    failure in a chain."""
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            for group in CANVASES:
                nursery.start_soon(follow, setup, group, 0)
            for group, canvas in CANVASES.items():
                await setup.publish(f"start_group('{group}', {canvas})")
    ends = {group: check(setup, group) for group in CANVASES}
    counts = {group: (state["status"], *counted(state)) for group, state in ends.items()}
    assert counts == {
        "header": ("failed", 20, 1, 1),
        "chain": ("failed", 1, 1, 2),
        "both": ("failed", 1, 1, 3),
        "killed": ("failed", 0, 1, 2),
    }
    never = setup.children("chain", node=1)["chain/part:4"]
    assert never["message"] == "not run: broken:2 failed"
