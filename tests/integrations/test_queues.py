"""The adapters of task queues: the real library, with a worker and publishers in their own
processes.

A test of a library that is not installed is skipped; CI installs all of them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.brokers.redis.server import Server, redis_server
from tests.worker.fake_gateway import DEADLINE
from tests.worker.recorder import Recorder

from .steps import status_steps

ROOT = Path(__file__).parent.parent.parent
QUEUES = ["rq", "dramatiq", "huey", "taskiq", "arq"]

Submit = Callable[..., None]


@pytest.fixture(scope="module", params=QUEUES)
def queue(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    needed = [name, "taskiq_redis"] if name == "taskiq" else [name]
    missing = [package for package in needed if find_spec(package) is None]
    if missing:
        pytest.skip(f"{missing[0]} is not installed")
    return name


@pytest.fixture(scope="module")
def recorder(queue: str) -> Iterator[Recorder]:
    recorder = Recorder()
    yield recorder
    recorder.close()


@pytest.fixture(scope="module")
def submit(queue: str, recorder: Recorder) -> Iterator[Submit]:
    """Submits a task; a worker of the queue runs."""
    server = Server(redis_server())
    environment = os.environ | {
        "BROKER_SOCKET": str(server.socket),
        "GATEWAY_URL": recorder.url,
        "PROGRESS_GATEWAY_URL": recorder.url,
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore",
    }
    program = [sys.executable, "-m", "tests.integrations.queues", queue]
    worker = subprocess.Popen(program, env=environment, process_group=0)

    def submit(*words: str) -> None:
        subprocess.run([*program, *words], env=environment, check=True, timeout=DEADLINE)

    yield submit
    os.killpg(
        worker.pid, signal.SIGKILL
    )  # the test does not depend on how long a queue takes to stop
    worker.wait()
    server.close()


def test_a_task_is_reported(submit: Submit, recorder: Recorder) -> None:
    submit("encode", "1")
    states = recorder.states("video:1")
    assert status_steps(states)[-1] == (1, "succeeded")
    assert {status for _, status in status_steps(states)} <= {"queued", "running", "succeeded"}
    assert (states[-1].done, states[-1].total) == (100, 100)
    assert (states[-1].message or "").startswith("in ")


def test_a_failed_task_fails_the_job(submit: Submit, recorder: Recorder) -> None:
    submit("broken")
    end = recorder.states("broken")[-1]
    assert end.status == "failed"
    assert "bad frame" in (end.error or "")


def test_a_retry_is_a_new_attempt(submit: Submit, recorder: Recorder, tmp_path: Path) -> None:
    submit("flaky", str(tmp_path / "mark"))
    states = recorder.states("flaky")
    assert status_steps(states)[-1] == (2, "succeeded")
    assert not [state for state in states if state.attempt == 1 and state.final]


def test_a_result_that_means_a_failure_fails_the_job(
    queue: str, submit: Submit, recorder: Recorder
) -> None:
    if queue == "huey":
        return  # its signals do not contain the result
    submit("returned")
    end = recorder.states("returned")[-1]
    assert (end.status, end.error) == ("failed", "no space")


def test_current_job_works_in_a_helper_thread(submit: Submit, recorder: Recorder) -> None:
    submit("threaded")
    assert recorder.states("threaded")[-1].message == "from a thread"


def test_a_task_that_is_cancelled_by_a_request_is_not_tried_again(
    submit: Submit, recorder: Recorder
) -> None:
    submit("stopped")
    recorder.states("stopped", lambda state: state.accepts == ("cancel",))
    recorder.send_request("stopped", "cancel")
    assert status_steps(recorder.states("stopped"))[-1] == (1, "cancelled")
    submit("encode", "2")  # the worker continues after that task
    recorder.states("video:2")
    assert status_steps(recorder.states("stopped"))[-1] == (1, "cancelled")


def test_a_task_whose_process_was_killed_is_stalled(
    queue: str, submit: Submit, recorder: Recorder
) -> None:
    if queue != "rq":
        return  # the worker is killed with its task, so the job becomes stalled
    submit("dies")
    end = recorder.states("dies")[-1]
    assert (end.attempt, end.status) == (1, "failed")
    assert end.error


@pytest.fixture(scope="module")
def django() -> Iterator[tuple[Submit, Recorder]]:
    if find_spec("django_tasks") is None:
        pytest.skip("django-tasks is not installed")
    recorder = Recorder()
    environment = os.environ | {"PROGRESS_GATEWAY_URL": recorder.url, "PYTHONPATH": str(ROOT)}

    def submit(*words: str) -> None:
        program = [sys.executable, "-m", "tests.integrations.queues", "django", *words]
        subprocess.run(program, env=environment, check=True, timeout=DEADLINE)

    yield submit, recorder
    recorder.close()


@pytest.mark.parametrize(
    ("task", "job", "end"),
    [
        (("encode", "1"), "video:1", ("succeeded", None)),
        (("broken",), "broken", ("failed", "ValueError: bad frame")),
        (("threaded",), "threaded", ("succeeded", None)),
    ],
)
def test_django_tasks_are_reported(
    django: tuple[Submit, Recorder], task: tuple[str, ...], job: str, end: tuple[str, str | None]
) -> None:
    submit, recorder = django
    submit(*task)
    state = recorder.states(job)[-1]
    assert (state.status, state.error) == end
