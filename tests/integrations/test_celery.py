"""Celery's tasks as jobs: a real worker with a prefork pool, a publisher, a Redis between.

Celery runs in processes of its own: its warnings are its own business.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import msgspec
import pytest

from gateway.job import State
from tests.brokers.server import Server, redis_server
from tests.worker.peer import DEADLINE
from tests.worker.recorder import Recorder

ROOT = Path(__file__).parent.parent.parent
APP = "tests.integrations.tasks"
PUBLISHER = f"""
import sys
from {APP} import *
for line in sys.stdin:
    print(eval(line), flush=True)
"""
WORKER = [
    "celery", "-A", APP, "worker", "--pool", "prefork", "--concurrency", "2",
    "--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "WARNING",
]  # fmt: skip


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    yield recorder
    recorder.close()


@pytest.fixture(scope="module")
def environment(recorder: Recorder) -> Iterator[dict[str, str]]:
    server = Server(redis_server())
    yield os.environ | {
        "BROKER_URL": f"redis+socket://{server.socket}",
        "GATEWAY_URL": recorder.url,
        "PYTHONPATH": str(ROOT),
    }
    server.close()


class Publisher:
    """A process that publishes tasks."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", PUBLISHER],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, expression: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{expression}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().rstrip()

    def close(self) -> None:
        self._process.communicate(timeout=DEADLINE)


@pytest.fixture(scope="module")
def publish(environment: dict[str, str]) -> Iterator[Publisher]:
    publisher = Publisher(environment)
    yield publisher
    publisher.close()


def start_worker(environment: dict[str, str], *, queue: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", *WORKER, "--queues", queue], env=environment, process_group=0
    )


@pytest.fixture(scope="module")
def worker(environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    worker = start_worker(environment, queue="celery")
    yield worker
    worker.terminate()
    assert worker.wait(DEADLINE) == 0


pytestmark = pytest.mark.usefixtures("worker")


def course(states: list[State]) -> list[tuple[int, str]]:
    """What its viewers saw: attempt and status."""
    return [step for step, _ in groupby((state.attempt, state.status) for state in states)]


def test_a_task(recorder: Recorder, publish: Publisher, worker: subprocess.Popen[bytes]) -> None:
    publish("encode.delay(1)")
    states = recorder.states("video:1")
    assert course(states)[-1] == (1, "succeeded")
    assert set(course(states)) <= {(1, "queued"), (1, "running"), (1, "succeeded")}
    end = states[-1]
    assert (end.done, end.total, end.percent) == (100, 100, 100)
    assert (end.message or "").startswith("fast in ")
    assert msgspec.json.encode(end.data) == b'{"ppid":%d}' % worker.pid


def test_it_is_queued_while_nobody_has_time(recorder: Recorder, publish: Publisher) -> None:
    publish("encode.apply_async([2], {'preset': 'slow'}, countdown=0.5)")
    assert recorder.states("video:2", lambda state: state.status == "queued")
    states = recorder.states("video:2")
    assert course(states)[-1] == (1, "succeeded")
    assert (states[-1].message or "").startswith("slow in ")


def test_names(recorder: Recorder, publish: Publisher) -> None:
    task = publish("by_id.delay().id")
    publish("by_id.apply_async(task_id='an odd id')")
    publish("app.send_task('tests.integrations.tasks.encode', kwargs={'video': 3})")
    publish("unseen.delay()")
    wrong = publish("wrong_name.delay().id")
    for job in (task, "an-odd-id", "video:3", wrong):
        assert recorder.states(job)[-1].status == "succeeded"
    assert not [job for job in recorder.jobs if job.startswith("wrong")]


def test_retries_are_attempts(recorder: Recorder, publish: Publisher) -> None:
    publish("flaky.delay(1)")
    states = recorder.states("flaky:1")
    assert course(states)[-1] == (2, "failed")
    assert not [state for state in states if state.attempt == 1 and state.final]
    assert states[-1].error == "OSError: no route"
    assert states[-1].message == "try 2"


def test_called_without_a_worker(recorder: Recorder, publish: Publisher) -> None:
    assert publish("encode.apply([6]).get()") == "a result"
    assert recorder.states("video:6")[-1].status == "succeeded"
    assert publish("flaky.apply([2]).state") == "FAILURE"
    end = recorder.states("flaky:2")[-1]
    assert (end.attempt, end.message, end.error) == (2, "try 2", "OSError: no route")


def test_a_failure(recorder: Recorder, publish: Publisher) -> None:
    publish("broken.delay()")
    end = recorder.states("broken")[-1]
    assert (end.status, end.error) == ("failed", "ValueError: bad frame")


def test_a_task_that_is_ignored_has_ended_its_job(recorder: Recorder, publish: Publisher) -> None:
    publish("ignored.delay()")
    end = recorder.states("ignored")[-1]
    assert (end.status, end.message) == ("cancelled", "not needed")


def pid(recorder: Recorder, job: str) -> int:
    """The process in which `job` hangs."""
    return int(recorder.states(job, lambda state: bool(state.message))[-1].message or "")


def test_terminated(recorder: Recorder, publish: Publisher) -> None:
    task = publish("hang.delay(1).id")
    pid(recorder, "hangs:1")
    publish(f"app.control.revoke({task!r}, terminate=True)")
    assert course(recorder.states("hangs:1"))[-1] == (1, "cancelled")


def test_revoked_before_it_runs(recorder: Recorder, publish: Publisher) -> None:
    task = publish("encode.apply_async([4], countdown=0.3).id")
    publish(f"app.control.revoke({task!r})")
    assert course(recorder.states("video:4")) == [(1, "queued"), (1, "cancelled")]


def test_expired(recorder: Recorder, publish: Publisher) -> None:
    publish("encode.apply_async([5], countdown=0.3, expires=0.1)")
    end = recorder.states("video:5")[-1]
    assert (end.status, end.message) == ("cancelled", "expired")


def test_its_process_is_killed(recorder: Recorder, publish: Publisher) -> None:
    publish("hang.delay(2)")
    os.kill(pid(recorder, "hangs:2"), signal.SIGKILL)
    end = recorder.states("hangs:2")[-1]
    assert (end.attempt, end.status) == (1, "failed")
    assert (end.error or "").startswith("WorkerLostError: ")


def test_out_of_time(recorder: Recorder, publish: Publisher) -> None:
    publish("limited.delay()")
    end = recorder.states("limited")[-1]
    assert end.status == "failed"
    assert (end.error or "").startswith("TimeLimitExceeded: ")


def test_delivered_again(recorder: Recorder, publish: Publisher) -> None:
    publish("die_once.delay(1)")
    states = recorder.states("dies:1")
    steps = [step for step in course(states) if step[1] != "queued"]
    assert (steps[0], steps[-1]) == ((1, "running"), (2, "succeeded"))


def test_the_whole_worker_is_killed(
    recorder: Recorder, publish: Publisher, environment: dict[str, str]
) -> None:
    other = start_worker(environment, queue="other")
    publish("hang.apply_async([3], queue='other')")
    pid(recorder, "hangs:3")
    os.killpg(other.pid, signal.SIGKILL)
    other.wait()
    states = recorder.states("hangs:3", lambda state: state.health == "stalled")
    assert states[-1].status == "running"
