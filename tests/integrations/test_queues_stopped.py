"""What is shown of tasks whose worker is stopped, killed or told to abort them.

RQ and arq, with their own handling of signals.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import pytest
from attrs import define

from gateway.model.state import State
from tests.brokers.redis.server import Server, redis_server
from tests.worker.fake_gateway import DEADLINE
from tests.worker.recorder import Recorder

from .steps import status_steps

ROOT = Path(__file__).parent.parent.parent


@define
class Queue:
    """A queue, to which workers can be started."""

    name: str
    server: Server
    recorder: Recorder

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {
            "BROKER_SOCKET": str(self.server.socket),
            "PROGRESS_GATEWAY_URL": self.recorder.url,
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "ignore",
        }

    @property
    def program(self) -> list[str]:
        return [sys.executable, "-m", "tests.integrations.queues", self.name]

    def submit(self, *words: str) -> None:
        program = [*self.program, *words]
        subprocess.run(program, env=self.environment, check=True, timeout=DEADLINE)

    @contextmanager
    def worker(self) -> Iterator[subprocess.Popen[bytes]]:
        with subprocess.Popen(self.program, env=self.environment, process_group=0) as worker:
            try:
                yield worker
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(worker.pid, signal.SIGKILL)


@pytest.fixture
def queue(request: pytest.FixtureRequest) -> Iterator[Queue]:
    if find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    queue = Queue(request.param, Server(redis_server()), Recorder())
    yield queue
    queue.recorder.close()
    queue.server.close()


rq = pytest.mark.parametrize("queue", ["rq"], indirect=True)
arq = pytest.mark.parametrize("queue", ["arq"], indirect=True)


def works(state: State) -> bool:
    return state.status == "running" and state.message is not None


def stop_cold(worker: subprocess.Popen[bytes]) -> None:
    """Sends two signals with a pause, because RQ ignores a second one that comes within a second of
    the first."""
    while worker.poll() is None:
        worker.terminate()
        with suppress(subprocess.TimeoutExpired):
            worker.wait(0.2)


@rq
def test_a_cold_shutdown_of_rqs_worker_ends_its_job(queue: Queue) -> None:
    with queue.worker() as worker:
        queue.submit("endless")
        queue.recorder.states("endless", works)
        stop_cold(worker)
    states = queue.recorder.states("endless")
    assert status_steps(states)[-1] == (1, "failed")
    assert states[-1].error == "its worker was shut down"


@rq
def test_after_a_cold_shutdown_a_job_that_rq_will_try_again_is_queued(queue: Queue) -> None:
    with queue.worker() as worker:
        queue.submit("endless", "again")
        queue.recorder.states("endless", works)
        stop_cold(worker)
    states = queue.recorder.states("endless", lambda state: state.status == "queued")
    assert status_steps(states)[-2:] == [(1, "running"), (2, "queued")]


@rq
def test_a_job_that_rq_finds_abandoned_has_failed(queue: Queue) -> None:
    with queue.worker() as worker:
        queue.submit("endless")
        work_horse = int(queue.recorder.states("endless", works)[-1].message or "")
        worker.kill()
        worker.wait()
        os.kill(work_horse, signal.SIGKILL)
    # As if the time had passed for which RQ waits for a heartbeat.
    (running,) = queue.server.client.zrange("rq:wip:default", 0, -1)
    queue.server.client.zadd("rq:wip:default", {running: 1})
    with queue.worker():
        states = queue.recorder.states("endless")
    assert status_steps(states)[-1] == (1, "failed")
    assert states[-1].error == "its worker has died"


@arq
def test_a_task_of_an_arq_worker_that_shuts_down_is_queued_again(queue: Queue) -> None:
    with queue.worker() as worker:
        for task in ("endless", "once"):
            queue.submit(task)
            queue.recorder.states(task, lambda state: state.status == "running")
        # Not every worker ends by this with a redis-py that is newer than arq supports.
        worker.terminate()
        states = queue.recorder.states("endless", lambda state: state.attempt == 2)
        assert states[-1].status in ("queued", "running")
        assert not [state for state in states if state.attempt == 1 and state.final]
        once = queue.recorder.states("once")
        assert status_steps(once)[-1] == (1, "failed")
        assert once[-1].error == "max tries (1) exceeded: CancelledError()"


@arq
def test_a_task_of_arq_that_takes_too_long_has_failed_and_an_aborted_one_is_cancelled(
    queue: Queue,
) -> None:
    with queue.worker():
        queue.submit("late")
        late = queue.recorder.states("late")[-1]
        assert (late.status, late.error) == ("failed", "timed out")
        queue.submit("endless")
        queue.recorder.states("endless", lambda state: state.status == "running")
        queue.submit("abort", "endless")
        assert status_steps(queue.recorder.states("endless"))[-1] == (1, "cancelled")
