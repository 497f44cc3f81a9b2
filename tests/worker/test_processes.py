"""Processes: forks, exits, kills; and what an import costs."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from gateway.worker import Job, process

from .fake import until
from .peer import DEADLINE, Peer

# Python 3.12 warns of any fork in a process with threads; that is what is tested here.
pytestmark = [
    pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system"),
]


def fork(child: Callable[[], object]) -> int:
    """Run `child` in a fork; its pid. The child exits with 0 unless `child` raises."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        signal.alarm(int(DEADLINE))  # a deadlock ends here
        child()
        code = 0
    finally:
        os._exit(code)


def joined(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_parent_and_child_go_on_as_one_attempt(peer: Peer) -> None:
    with Job("job", message="from the parent") as job:
        until(job, lambda: job.attempt)

        def child() -> None:
            job.update(message="from the child")
            job._sender.flush()

        assert joined(fork(child)) == 0
        assert peer.got[-1].fields["message"] == "from the child"
        job.update(message="from the parent again")
    assert {g.fields.get("attempt", 1) for g in peer.got} == {1}
    assert len({g.connection for g in peer.got}) == 2
    assert peer.got[-1].fields["message"] == "from the parent again"
    assert peer.got[-1].fields["status"] == "succeeded"


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


def test_forks_amid_heavy_use(peer: Peer) -> None:
    """Many forks while threads report as fast as they can and the sender sends."""
    stop = threading.Event()
    with Job("job") as job:

        def work() -> None:
            while not stop.is_set():
                job.advance()

        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()

        def child(i: int) -> None:
            with Job(f"child{i}") as mine:
                mine.update(done=i)
            job.advance()

        pids = [fork(lambda i=i: child(i)) for i in range(10)]  # type: ignore[misc]
        codes = [joined(pid) for pid in pids]
        stop.set()
        for thread in threads:
            thread.join(DEADLINE)
    assert codes == [0] * 10
    assert all(len(peer.ends(f"child{i}")) == 1 for i in range(10))
    assert len(peer.ends("job")) == 1


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


def in_a_pool(job: Job) -> None:
    """What a child of multiprocessing does: it ends by `os._exit`, right after this."""
    job.update(message="from a child of multiprocessing")


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing(peer: Peer, method: str) -> None:
    context: Any = multiprocessing.get_context(method)
    with Job("job") as job:
        until(job, lambda: job.attempt)
        if method == "fork":
            child = context.Process(target=in_a_pool, args=(job,))
        else:
            child = context.Process(target=os.getpid)  # a Job is not sent to other processes
        child.start()
        child.join(DEADLINE)
        assert child.exitcode == 0
    sent = [g for g in peer.got if g.fields.get("message") == "from a child of multiprocessing"]
    assert bool(sent) == (method == "fork")


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


def test_at_exit_what_is_due_is_sent(peer: Peer) -> None:
    code = (
        "from gateway.worker import Job\n"
        "a = Job('a'); a.update(done=1); a.update(message='last words')\n"
        "b = Job('b'); b.fail('gone')\n"
    )
    result = python(code, GATEWAY_URL=peer.url)
    assert (result.returncode, result.stderr) == (0, "")
    assert peer.of("a")[-1].fields["message"] == "last words"
    assert peer.ends("b")


def test_at_exit_a_gateway_that_is_away_is_not_waited_for_long(nowhere: str) -> None:
    code = "from gateway.worker import Job\nwith Job('a', timeout=0.3) as a: a.update(done=1)\n"
    result = python(code, GATEWAY_URL=nowhere)
    assert result.returncode == 0
    assert result.stderr.count("\n") == 2
    assert "is away" in result.stderr
    assert "its end could not be delivered in time" in result.stderr


@pytest.mark.parametrize(
    ("ending", "code", "status"),
    [
        ("raise SystemExit(3)", 3, "failed"),
        ("raise SystemExit", 0, "succeeded"),
        ("raise ValueError('x')", 1, "failed"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGINT)", -2, "cancelled"),
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
