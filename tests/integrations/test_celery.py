"""Celery's tasks as jobs: a real worker with a prefork pool, a publisher, and a Redis between them.

Celery runs in its own processes, so its warnings do not matter here.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import msgspec
import pytest

from gateway import job_id
from gateway.model.state import Children
from tests.brokers.redis.server import Server, redis_server
from tests.worker.fake_gateway import DEADLINE
from tests.worker.recorder import Recorder

from .steps import status_steps

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
def environment(module_recorder: Recorder) -> Iterator[dict[str, str]]:
    server = Server(redis_server())
    yield os.environ | {
        "BROKER_URL": f"redis+socket://{server.socket}",
        "PROGRESS_GATEWAY_URL": module_recorder.url,
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
    # A worker that has not set its handlers yet is ended by the signal.
    assert worker.wait(DEADLINE) in (0, -signal.SIGTERM)


@pytest.fixture(autouse=True)
def _a_failed_test_leaves_no_task(
    request: pytest.FixtureRequest, publish: Publisher
) -> Iterator[None]:
    """A task that waits for a minute would make the next tests fail too."""
    failed_before = request.session.testsfailed
    yield
    if request.session.testsfailed > failed_before:
        publish("end_all_tasks()")


pytestmark = pytest.mark.usefixtures("worker")


def test_a_task_is_reported(
    module_recorder: Recorder, publish: Publisher, worker: subprocess.Popen[bytes]
) -> None:
    publish("encode.delay(1)")
    states = module_recorder.states("video:1")
    assert status_steps(states)[-1] == (1, "succeeded")
    assert set(status_steps(states)) <= {(1, "queued"), (1, "running"), (1, "succeeded")}
    end = states[-1]
    assert (end.done, end.total, end.percent) == (100, 100, 100)
    assert (end.message or "").startswith("fast in ")
    assert msgspec.json.encode(end.data) == b'{"ppid":%d}' % worker.pid


def test_a_waiting_task_is_queued(module_recorder: Recorder, publish: Publisher) -> None:
    publish("encode.apply_async([2], {'preset': 'slow'}, countdown=0.5)")
    assert module_recorder.states("video:2", lambda state: state.status == "queued")
    states = module_recorder.states("video:2")
    assert status_steps(states)[-1] == (1, "succeeded")
    assert (states[-1].message or "").startswith("slow in ")


def test_jobs_are_named_by_the_template(module_recorder: Recorder, publish: Publisher) -> None:
    task = publish("by_id.delay().id")
    publish("by_id.apply_async(task_id='an odd id')")
    publish("app.send_task('tests.integrations.tasks.encode', kwargs={'video': 3})")
    publish("unseen.delay()")
    wrong = publish("wrong_name.delay().id")
    for job in (task, job_id("an odd id"), "video:3", wrong):
        assert module_recorder.states(job)[-1].status == "succeeded"
    assert not [job for job in module_recorder.jobs if job.startswith("wrong")]


def test_retries_are_new_attempts(module_recorder: Recorder, publish: Publisher) -> None:
    publish("flaky.delay(1)")
    states = module_recorder.states("flaky:1")
    assert status_steps(states)[-1] == (2, "failed")
    assert not [state for state in states if state.attempt == 1 and state.final]
    assert states[-1].error == "OSError: no route"
    assert states[-1].message == "try 2"


def test_a_task_called_without_a_worker_is_reported(
    module_recorder: Recorder, publish: Publisher
) -> None:
    assert publish("encode.apply([6]).get()") == "a result"
    assert module_recorder.states("video:6")[-1].status == "succeeded"
    assert publish("flaky.apply([2]).state") == "FAILURE"
    end = module_recorder.states("flaky:2")[-1]
    assert (end.attempt, end.message, end.error) == (2, "try 2", "OSError: no route")


def test_a_failed_task_fails_the_job(module_recorder: Recorder, publish: Publisher) -> None:
    publish("broken.delay()")
    end = module_recorder.states("broken")[-1]
    assert (end.status, end.error) == ("failed", "ValueError: bad frame")


def test_an_ignored_task_that_has_ended_its_job_keeps_that_end(
    module_recorder: Recorder, publish: Publisher
) -> None:
    publish("ignored.delay()")
    end = module_recorder.states("ignored")[-1]
    assert (end.status, end.message) == ("cancelled", "not needed")


def pid(module_recorder: Recorder, job: str) -> int:
    """Returns the id of the process in which `job` hangs."""
    return int(module_recorder.states(job, lambda state: bool(state.message))[-1].message or "")


def test_a_terminated_task_is_cancelled(module_recorder: Recorder, publish: Publisher) -> None:
    task = publish("hang.delay(1).id")
    pid(module_recorder, "hangs:1")
    publish(f"app.control.revoke({task!r}, terminate=True)")
    assert status_steps(module_recorder.states("hangs:1"))[-1] == (1, "cancelled")


def send_cancel(module_recorder: Recorder, job: str) -> None:
    """Sends the request that the button on the page sends."""
    assert "cancel" in (module_recorder.states(job, lambda state: True)[-1].accepts or ())
    with urlopen(f"{module_recorder.url}/api/jobs/{job}/requests", b'{"verb":"cancel"}') as answer:  # noqa: S310 - ours
        assert answer.status == 202


def test_a_request_to_cancel_terminates_a_task(
    module_recorder: Recorder, publish: Publisher
) -> None:
    assert publish("any(app.control.ping(timeout=1) for _ in range(20))") == "True"
    publish("hang.delay(20)")
    pid(module_recorder, "hangs:20")
    send_cancel(module_recorder, "hangs:20")
    states = module_recorder.states("hangs:20")
    assert status_steps(states)[-1] == (1, "cancelled")
    assert states[-1].request is not None  # its process may end before it has acknowledged it


def test_a_queued_task_with_a_request_to_cancel_ends_when_a_worker_takes_it(
    module_recorder: Recorder, publish: Publisher
) -> None:
    task = publish("hang.apply_async([21], countdown=1).id")
    module_recorder.states("hangs:21", lambda state: state.status == "queued")
    send_cancel(module_recorder, "hangs:21")
    states = module_recorder.states("hangs:21")
    assert status_steps(states)[-1] == (1, "cancelled"), task
    assert states[-1].request is not None


def test_a_request_to_cancel_ends_the_loop_of_a_task_in_a_thread_pool(
    module_recorder: Recorder, publish: Publisher, environment: dict[str, str]
) -> None:
    command = [*WORKER, "--pool", "threads", "--queues", "loops"]
    other_worker = subprocess.Popen(
        [sys.executable, "-m", *command], env=environment, process_group=0
    )
    publish("loop.apply_async([1], queue='loops')")
    module_recorder.states("loops:1", lambda state: state.status == "running")
    send_cancel(module_recorder, "loops:1")
    states = module_recorder.states("loops:1")
    os.killpg(other_worker.pid, signal.SIGKILL)
    other_worker.wait()
    assert status_steps(states)[-1] == (1, "cancelled")


def test_a_request_to_cancel_a_group_cancels_running_and_queued_tasks(
    module_recorder: Recorder, publish: Publisher
) -> None:
    """Two processes get four tasks. The queued tasks are revoked when their turn comes."""
    publish("start_group('stop', group(hang.s(n) for n in range(30, 34)), accepts=['cancel'])")
    module_recorder.states("stop", lambda state: state.children == Children(4, queued=2, running=2))
    send_cancel(module_recorder, "stop")
    end = module_recorder.states("stop")[-1]
    assert (end.status, end.children) == ("cancelled", Children(4, cancelled=4))


def test_tasks_of_a_cancelled_group_that_wait_are_revoked_before_they_begin(
    module_recorder: Recorder, publish: Publisher
) -> None:
    publish("start_group('all', group(hang.s(n) for n in range(40, 56)), accepts=['cancel'])")
    module_recorder.states(
        "all", lambda state: bool(state.children and state.children.running == 2)
    )
    send_cancel(module_recorder, "all")
    end = module_recorder.states("all")[-1]
    assert (end.status, end.children) == ("cancelled", Children(16, cancelled=16))
    steps_of_tasks = [status_steps(module_recorder.states(f"all/hangs:{n}")) for n in range(40, 56)]
    assert [(1, "queued"), (1, "cancelled")] in steps_of_tasks


def test_a_task_revoked_before_it_runs_is_cancelled(
    module_recorder: Recorder, publish: Publisher
) -> None:
    # A worker that has just started does not receive broadcasts yet.
    assert publish("any(app.control.ping(timeout=1) for _ in range(20))") == "True"
    task = publish("encode.apply_async([4], countdown=1).id")
    publish(f"app.control.revoke({task!r})")
    assert status_steps(module_recorder.states("video:4")) == [(1, "queued"), (1, "cancelled")]


def test_an_expired_task_is_cancelled(module_recorder: Recorder, publish: Publisher) -> None:
    publish("encode.apply_async([5], countdown=0.3, expires=0.1)")
    end = module_recorder.states("video:5")[-1]
    assert (end.status, end.message) == ("cancelled", "expired")


def test_a_task_whose_process_is_killed_fails(
    module_recorder: Recorder, publish: Publisher
) -> None:
    publish("hang.delay(2)")
    os.kill(pid(module_recorder, "hangs:2"), signal.SIGKILL)
    end = module_recorder.states("hangs:2")[-1]
    assert (end.attempt, end.status) == (1, "failed")
    assert (end.error or "").startswith("WorkerLostError: ")


def test_a_task_beyond_its_time_limit_fails(module_recorder: Recorder, publish: Publisher) -> None:
    publish("limited.delay()")
    end = module_recorder.states("limited")[-1]
    assert end.status == "failed"
    assert (end.error or "").startswith("TimeLimitExceeded: ")


def test_a_redelivered_task_is_a_new_attempt(module_recorder: Recorder, publish: Publisher) -> None:
    publish("die_once.delay(1)")
    states = module_recorder.states("dies:1")
    steps = [step for step in status_steps(states) if step[1] != "queued"]
    assert (steps[0], steps[-1]) == ((1, "running"), (2, "succeeded"))


def test_a_task_of_a_killed_worker_is_stalled(
    module_recorder: Recorder, publish: Publisher, environment: dict[str, str]
) -> None:
    other_worker = start_worker(environment, queue="other")
    publish("hang.apply_async([3], queue='other')")
    pid(module_recorder, "hangs:3")
    os.killpg(other_worker.pid, signal.SIGKILL)
    other_worker.wait()
    states = module_recorder.states("hangs:3", lambda state: state.health == "stalled")
    assert states[-1].status == "running"


def test_update_state_is_shown(module_recorder: Recorder, publish: Publisher) -> None:
    publish("stated.delay(1)")
    end = module_recorder.states("stated:1")[-1]
    assert (end.status, end.done, end.total, end.message) == ("succeeded", 3, 8, "third")


@pytest.mark.parametrize(
    ("task", "job", "why"),
    [
        ("own_failure", "own-failure", "no space"),
        ("returned", "returned", "no space"),
        ("rejected", "rejected", "rejected: no such film"),
    ],
)
def test_a_failure_set_with_update_state_fails_the_job(
    module_recorder: Recorder, publish: Publisher, task: str, job: str, why: str
) -> None:
    publish(f"{task}.delay()")
    end = module_recorder.states(job)[-1]
    assert (end.status, end.error) == ("failed", why)


def test_a_replaced_task_is_continued_by_the_new_one(
    module_recorder: Recorder, publish: Publisher
) -> None:
    publish("replaced.delay(77)")
    end = module_recorder.states("replaced:77")[-1]
    assert (end.status, end.message) == ("cancelled", "replaced by video:77")
    assert module_recorder.states("video:77")[-1].status == "succeeded"


def test_an_ignored_task_without_an_end_is_cancelled(
    module_recorder: Recorder, publish: Publisher
) -> None:
    publish("left.delay()")
    end = module_recorder.states("left")[-1]
    assert (end.status, end.message) == ("cancelled", "ignored")


def test_a_task_revoked_before_its_eta_is_cancelled_immediately(
    module_recorder: Recorder, publish: Publisher
) -> None:
    task = publish("encode.apply_async([9], countdown=3600).id")
    module_recorder.states("video:9", lambda state: state.status == "queued")
    for _ in range(100):
        if task in publish("str(app.control.inspect(timeout=0.3).scheduled())"):
            break
    else:
        raise AssertionError("no worker has it")
    publish(f"app.control.revoke({task!r})")
    assert module_recorder.states("video:9")[-1].status == "cancelled"


def test_current_job_works_in_a_helper_thread(
    module_recorder: Recorder, publish: Publisher
) -> None:
    publish("threaded.delay()")
    assert module_recorder.states("threaded")[-1].message == "from a thread"


def test_sys_exit_in_a_thread_pool_fails_the_job(
    module_recorder: Recorder, publish: Publisher, environment: dict[str, str]
) -> None:
    command = [*WORKER, "--pool", "threads", "--queues", "threads"]
    other_worker = subprocess.Popen(
        [sys.executable, "-m", *command], env=environment, process_group=0
    )
    publish("exits.apply_async(queue='threads')")
    end = module_recorder.states("exits")[-1]
    os.killpg(other_worker.pid, signal.SIGKILL)
    other_worker.wait()
    assert (end.status, end.error) == ("failed", "the task was ended by SystemExit(3)")


def test_a_group_of_tasks_is_one_group(module_recorder: Recorder, publish: Publisher) -> None:
    publish("start_group('batch:1', group(encode.s(11), flaky.s(11), broken.s()))")
    states = module_recorder.states("batch:1")
    assert status_steps(states)[-1] == (1, "failed")
    assert (states[-1].error, states[-1].percent) == ("2 of 3 failed", 100)
    assert states[-1].children == Children(3, succeeded=1, failed=2)
    assert module_recorder.states("batch:1/video:11")[-1].status == "succeeded"
    assert module_recorder.states("batch:1/flaky:11")[-1].attempt == 2


def test_a_chain_is_one_group(module_recorder: Recorder, publish: Publisher) -> None:
    publish("start_group('chain:1', chain(encode.si(12), group([encode.si(13)])))")
    end = module_recorder.states("chain:1")[-1]
    assert (end.status, end.children) == ("succeeded", Children(2, succeeded=2))


def test_a_group_is_cancelled_by_a_request(module_recorder: Recorder, publish: Publisher) -> None:
    """Tasks that have not begun are cancelled too, and the body of the chord."""
    tasks = "chord([stopped.si(number) for number in range(5)], encode.si(18))"
    publish(f"start_group('stopped', {tasks}, accepts={{'cancel'}})")
    module_recorder.states("stopped/stopped:0", lambda state: bool(state.accepts))
    module_recorder.send_request("stopped", "cancel")
    end = module_recorder.states("stopped")[-1]
    assert (end.status, end.children) == ("cancelled", Children(6, cancelled=6))
    assert module_recorder.states("stopped/stopped:4")[-1].attempt == 1
    publish("start_group('stopped:2', chain(stopped.si(1), then.s(2)))")
    module_recorder.states("stopped:2/stopped:1", lambda state: bool(state.accepts))
    module_recorder.send_request("stopped:2/stopped:1", "cancel")
    assert (
        module_recorder.states("stopped:2/then:2")[-1].message == "not run: stopped:1 was cancelled"
    )


def test_a_child_whose_process_is_killed_fails_in_its_group(
    module_recorder: Recorder, publish: Publisher
) -> None:
    publish("start_group('killed', group(hang.s(12)))")
    os.kill(pid(module_recorder, "killed/hangs:12"), signal.SIGKILL)
    end = module_recorder.states("killed")[-1]
    assert (end.status, end.error) == ("failed", "1 of 1 failed")


def test_a_group_that_cannot_be_called_fails(module_recorder: Recorder, publish: Publisher) -> None:
    assert publish("refused('lost')") == "SerializerNotInstalled"
    end = module_recorder.states("lost")[-1]
    assert (end.status, end.attempt) == ("failed", 1)
    assert end.error is not None
    assert "SerializerNotInstalled" in end.error


def test_the_size_of_a_chord_is_its_number_of_tasks(publish: Publisher) -> None:
    counted = "chord([encode.s(1), chain(encode.s(2), encode.s(3))], encode.si(4))"
    tasks = "__import__('gateway.integrations.celery_groups', fromlist=['x']).tasks_of"
    assert publish(f"len(list({tasks}({counted})))") == "4"
