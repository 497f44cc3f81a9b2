"""Processes: forks, exits, kills; and the modules that an import loads."""

from __future__ import annotations

import multiprocessing
import threading
from multiprocessing import util
from typing import Any

import pytest

from gateway.worker import Job, process_state, sender

from .fake import until
from .fake_gateway import DEADLINE, FakeGateway
from .forking import fork, forks, joined, python

pytestmark = forks


def test_parent_and_child_use_the_same_run_before_the_attempt_is_known(
    fake_gateway: FakeGateway,
) -> None:
    job = Job("job")

    def child() -> None:
        job.update(done=1)
        job._sender.flush()

    assert joined(fork(child)) == 0
    with job:
        pass
    starts = [g for g in fake_gateway.received if "start" in g.fields]
    assert len({g.fields["run"] for g in starts}) == 1
    assert fake_gateway.attempts["job"][0] == 1


def test_a_child_without_reports_sends_nothing(fake_gateway: FakeGateway) -> None:
    with Job("job", lease=1.0) as job:
        until(job, lambda: job.attempt)
        pid = fork(process_state.flush_all)
        assert joined(pid) == 0
        job.update(done=1)
    assert len({g.connection for g in fake_gateway.received}) == 1


def test_a_child_can_leave_the_block(fake_gateway: FakeGateway) -> None:
    def child() -> None:
        job.__exit__(None, None, None)

    job = Job("job").__enter__()
    until(job, lambda: job.attempt)
    assert joined(fork(child)) == 0
    assert len(fake_gateway.ends("job")) == 1
    job.cancel()
    assert job.wait()


def test_a_child_forked_after_the_end_delivers_it_when_it_waits(fake_gateway: FakeGateway) -> None:
    fake_gateway.default_answer = lambda got: None  # nothing is delivered in the parent
    job = Job("job")
    job.fail("x")
    fake_gateway.wait_for(lambda got: got)

    def child() -> None:
        assert job.wait(DEADLINE)

    pid = fork(child)
    seen = len(fake_gateway.received)
    fake_gateway.wait_for(lambda got: len(got) > seen)
    fake_gateway.default_answer = None
    assert joined(pid) == 0
    assert job.wait()


def test_a_child_flushes_once_after_several_thread_starts(
    fake_gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "IDLE_TIMEOUT", 0.01)

    def child() -> None:
        for _ in range(3):
            with Job("job") as job:
                pass
            thread = job._sender._thread
            if thread is not None:
                thread.join(DEADLINE)
        finalizers: Any = vars(util)["_finalizer_registry"]
        assert [f._callback for f in finalizers.values()].count(process_state.flush_all) == 1

    context: Any = multiprocessing.get_context("fork")
    forked = context.Process(target=child)
    forked.start()
    forked.join(DEADLINE)
    assert forked.exitcode == 0
    assert len(fake_gateway.ends("job")) == 3


def test_a_fork_works_while_other_threads_hold_all_locks(fake_gateway: FakeGateway) -> None:
    with Job("job") as job:
        until(job, lambda: job.attempt)
        locks_held, done = threading.Event(), threading.Event()

        def hold() -> None:
            with process_state.lock:
                locks_held.set()
                done.wait(DEADLINE)

        thread = threading.Thread(target=hold)
        thread.start()
        assert locks_held.wait(DEADLINE)

        def child() -> None:
            job.update(message="alive")
            with Job("new") as new:
                new.advance()
            job._sender.flush()

        pid = fork(child)
        assert joined(pid) == 0
        done.set()
        thread.join(DEADLINE)
    assert fake_gateway.ends("new")
    assert any(g.fields.get("message") == "alive" for g in fake_gateway.received)


def test_a_fork_waits_for_a_sender_that_is_importing() -> None:
    holding, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with process_state.import_lock:
            holding.set()
            let_go.wait(DEADLINE)

    thread = threading.Thread(target=hold)
    thread.start()
    assert holding.wait(DEADLINE)
    pids: list[int] = []
    forker = threading.Thread(
        target=lambda: pids.append(fork(lambda: process_state.import_lock.acquire()))
    )
    forker.start()
    assert not pids
    let_go.set()
    forker.join(DEADLINE)
    assert joined(pids[0]) == 0
    thread.join(DEADLINE)
    assert not process_state.import_lock.locked()


def test_a_fork_waits_for_a_limited_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_state, "FORK_TIMEOUT", 0.01)
    with process_state.import_lock:
        assert joined(fork(lambda: None)) == 0
        assert process_state.import_lock.locked()


def test_the_exit_waits_briefly_for_an_unavailable_gateway(nowhere: str) -> None:
    code = "from gateway.worker import Job\nwith Job('a', timeout=5) as a: a.update(done=1)\n"
    result = python(code, PROGRESS_GATEWAY_URL=nowhere)
    assert result.returncode == 0
    assert result.stderr.count("\n") == 2
    assert "is unavailable" in result.stderr
    assert f"job a: could not be sent to {nowhere} (" in result.stderr


INTERRUPT = (
    "import os, signal; "
    "signal.signal(signal.SIGINT, signal.default_int_handler); "  # a shell's `&` has it ignored
    "os.kill(os.getpid(), signal.SIGINT)"
)


@pytest.mark.parametrize(
    ("ending", "code", "status"),
    [
        ("raise SystemExit(3)", 3, "failed"),
        ("raise SystemExit", 0, "succeeded"),
        ("raise ValueError('x')", 1, "failed"),
        (INTERRUPT, -2, "cancelled"),
    ],
)
def test_each_end_of_a_script_is_reported(
    fake_gateway: FakeGateway, ending: str, code: int, status: str
) -> None:
    result = python(
        f"from gateway.worker import Job\nwith Job('a'):\n  {ending}\n",
        PROGRESS_GATEWAY_URL=fake_gateway.url,
    )
    assert result.returncode == code
    assert [g.fields["status"] for g in fake_gateway.ends("a")] == [status]


HEAVY = ("asyncio", "http.client", "msgspec", "redis", "ssl", "starlette", "hypercorn", "trio")


def test_the_import_loads_few_modules() -> None:
    result = python(
        "import sys\n"
        "import gateway.worker\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])\n"
        "print(sorted(m for m in sys.modules if m.startswith('gateway')))\n"
    )
    heavy, ours = result.stdout.splitlines()
    assert heavy == "[]"
    allowed = ("gateway.worker", "gateway.model")
    assert all(m == "gateway" or m.startswith(allowed) for m in eval(ours))  # noqa: S307 - a list


UNIX_ONLY = ("fcntl", "grp", "posix_ipc", "pty", "pwd", "resource", "syslog", "termios", "tty")


def test_a_worker_imports_no_unix_module(fake_gateway: FakeGateway) -> None:
    result = python(
        "import os, sys\n"
        f"sys.modules.update(dict.fromkeys({UNIX_ONLY!r}))\n"  # importing one now raises
        "for name in ('fork', 'register_at_fork'):\n"  # Windows has neither
        "    delattr(os, name)\n"
        "from gateway import Job, announce\n"
        "import gateway.integrations.logging\n"
        "announce('b')\n"
        "with Job('a') as job: job.update(percent=5)\n"
        "print('done')\n",
        PROGRESS_GATEWAY_URL=fake_gateway.url,
    )
    assert result.stdout == "done\n"
    assert [update.fields["status"] for update in fake_gateway.ends("a")] == ["succeeded"]


def test_a_job_imports_no_event_loop(fake_gateway: FakeGateway) -> None:
    result = python(
        "import sys\n"
        "from gateway.worker import Job\n"
        "with Job('a'): pass\n"
        "print([m for m in ('asyncio', 'trio') if m in sys.modules])\n",
        PROGRESS_GATEWAY_URL=fake_gateway.url,
    )
    assert result.stdout == "[]\n"
    assert fake_gateway.ends("a")
