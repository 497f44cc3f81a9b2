"""Processes: forks, exits, kills; and what an import costs."""

from __future__ import annotations

import multiprocessing
import threading
from multiprocessing import util
from typing import Any

import pytest

from gateway.worker import Job, process, sender

from .fake import until
from .forking import fork, forks, joined, python
from .peer import DEADLINE, Peer

pytestmark = forks


def test_before_the_attempt_is_known_the_run_is_the_same(peer: Peer) -> None:
    job = Job("job")

    def child() -> None:
        job.update(done=1)
        job._sender.flush()

    assert joined(fork(child)) == 0
    with job:
        pass
    starts = [g for g in peer.got if "start" in g.fields]
    assert len({g.fields["run"] for g in starts}) == 1
    assert peer.attempts["job"][0] == 1


def test_a_child_that_says_nothing_sends_nothing(peer: Peer) -> None:
    with Job("job", lease=1.0) as job:
        until(job, lambda: job.attempt)
        pid = fork(process.flush_all)
        assert joined(pid) == 0
        job.update(done=1)
    assert len({g.connection for g in peer.got}) == 1


def test_a_child_may_leave_the_block(peer: Peer) -> None:
    def child() -> None:
        job.__exit__(None, None, None)

    job = Job("job").__enter__()
    until(job, lambda: job.attempt)
    assert joined(fork(child)) == 0
    assert len(peer.ends("job")) == 1
    job.cancel()
    assert job.wait()


def test_a_child_forked_after_the_end_still_delivers_when_it_waits(peer: Peer) -> None:
    peer.always = lambda got: None  # nothing is delivered in the parent
    job = Job("job")
    job.fail("x")
    peer.wait_for(lambda got: got)

    def child() -> None:
        assert job.wait(DEADLINE)

    pid = fork(child)
    seen = len(peer.got)
    peer.wait_for(lambda got: len(got) > seen)
    peer.always = None
    assert joined(pid) == 0
    assert job.wait()


def test_a_child_flushes_once_however_often_its_thread_starts(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "IDLE", 0.01)

    def child() -> None:
        for _ in range(3):
            with Job("job") as job:
                pass
            thread = job._sender._thread
            if thread is not None:
                thread.join(DEADLINE)
        finalizers: Any = vars(util)["_finalizer_registry"]
        assert [f._callback for f in finalizers.values()].count(process.flush_all) == 1

    context: Any = multiprocessing.get_context("fork")
    forked = context.Process(target=child)
    forked.start()
    forked.join(DEADLINE)
    assert forked.exitcode == 0
    assert len(peer.ends("job")) == 3


def test_a_fork_while_other_threads_hold_every_lock(peer: Peer) -> None:
    with Job("job") as job:
        until(job, lambda: job.attempt)
        held, done = threading.Event(), threading.Event()

        def hold() -> None:
            with process.lock:
                held.set()
                done.wait(DEADLINE)

        thread = threading.Thread(target=hold)
        thread.start()
        assert held.wait(DEADLINE)

        def child() -> None:
            job.update(message="alive")
            with Job("new") as new:
                new.advance()
            job._sender.flush()

        pid = fork(child)
        assert joined(pid) == 0
        done.set()
        thread.join(DEADLINE)
    assert peer.ends("new")
    assert any(g.fields.get("message") == "alive" for g in peer.got)


def test_a_fork_waits_for_a_sender_that_is_importing() -> None:
    holding, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with process.importing:
            holding.set()
            let_go.wait(DEADLINE)

    thread = threading.Thread(target=hold)
    thread.start()
    assert holding.wait(DEADLINE)
    pids: list[int] = []
    forker = threading.Thread(target=lambda: pids.append(fork(lambda: process.importing.acquire())))
    forker.start()
    assert not pids
    let_go.set()
    forker.join(DEADLINE)
    assert joined(pids[0]) == 0
    thread.join(DEADLINE)
    assert not process.importing.locked()


def test_a_fork_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "FORK", 0.01)
    with process.importing:
        assert joined(fork(lambda: None)) == 0
        assert process.importing.locked()


def test_at_exit_a_gateway_that_is_away_is_not_waited_for_long(nowhere: str) -> None:
    code = "from gateway.worker import Job\nwith Job('a', timeout=0.3) as a: a.update(done=1)\n"
    result = python(code, GATEWAY_URL=nowhere)
    assert result.returncode == 0
    assert result.stderr.count("\n") == 2
    assert "is away" in result.stderr
    assert "its end could not be delivered in time" in result.stderr


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
def test_how_a_script_ends(peer: Peer, ending: str, code: int, status: str) -> None:
    result = python(
        f"from gateway.worker import Job\nwith Job('a'):\n  {ending}\n", GATEWAY_URL=peer.url
    )
    assert result.returncode == code
    assert [g.fields["status"] for g in peer.ends("a")] == [status]


HEAVY = ("asyncio", "http.client", "msgspec", "redis", "ssl", "starlette", "hypercorn", "trio")


def test_the_import_is_light() -> None:
    result = python(
        "import sys\n"
        "import gateway.worker\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])\n"
        "print(sorted(m for m in sys.modules if m.startswith('gateway')))\n"
    )
    heavy, ours = result.stdout.splitlines()
    assert heavy == "[]"
    assert all(m == "gateway" or m.startswith("gateway.worker") for m in eval(ours))  # noqa: S307


def test_a_job_needs_no_event_loop_either(peer: Peer) -> None:
    result = python(
        "import sys\n"
        "from gateway.worker import Job\n"
        "with Job('a'): pass\n"
        "print([m for m in ('asyncio', 'trio') if m in sys.modules])\n",
        GATEWAY_URL=peer.url,
    )
    assert result.stdout == "[]\n"
    assert peer.ends("a")
