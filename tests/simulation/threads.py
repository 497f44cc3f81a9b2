"""Makes threads, locks, clocks and random numbers of the code under test deterministic. A simulated
thread is a greenlet. Where real code would block (a lock, a socket, a sleep), the greenlet is
suspended, a Trio task waits in its place on the virtual clock, and the greenlet continues with the
result. So the code of the poller's and the sender's threads runs as it is, one step at a time, in
an order that the seed decides.

`simulated` replaces `threading`, `time`, `random`, `socket` and `os.urandom` in the modules of the
package, by name, for the duration of a run.
"""

from __future__ import annotations

import contextvars
import os
import random
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from math import inf
from types import ModuleType, SimpleNamespace
from typing import Any
from weakref import WeakKeyDictionary

import trio
import trio.from_thread
import trio.to_thread
from greenlet import GreenletExit, getcurrent, greenlet
from trio._core._run import GLOBAL_RUN_CONTEXT

__all__ = [
    "EPOCH",
    "SimulatedProcess",
    "block",
    "current_process",
    "process_of",
    "run_in_thread",
    "simulated",
]

EPOCH = 1_700_000_000.0
"""The Unix time at the beginning of every run."""

_process: contextvars.ContextVar[SimulatedProcess] = contextvars.ContextVar("process")


class SimulatedProcess:
    """A simulated process, which has a clock, a random generator and threads, and can be killed."""

    def __init__(self, name: str, seed: str) -> None:
        self.name = name
        self.rng = random.Random(f"{seed}/{name}")
        self.skew = 0.0
        """Seconds its wall clock is ahead."""
        self.dead = False
        self.can_start_threads = True
        self.pauses = 0
        self.paused_until = 0.0
        """When the last pause ended; infinite during a pause."""
        self.waiting_tasks: list[trio.lowlevel.Task] | None = None
        """The tasks that could run if the process was not paused; None if it is not."""
        self.nursery: trio.Nursery | None = None
        self._shields: set[trio.CancelScope] = set()

    def __repr__(self) -> str:
        return f"<SimulatedProcess {self.name}>"

    async def run(
        self,
        main: Callable[[], Awaitable[None]],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Run `main` and all its threads until it returns or `kill`."""
        token = _process.set(self)
        try:
            async with trio.open_nursery() as nursery:
                self.nursery = nursery
                task_status.started()
                await main()
                self.kill()
        finally:
            self.dead = True
            _process.reset(token)

    def start_soon(self, function: Callable[..., Awaitable[Any]], *args: Any) -> None:
        """Run a function as a task of this process, whatever task calls this."""

        async def run() -> None:
            _process.set(self)
            await function(*args)

        assert self.nursery is not None
        self.nursery.start_soon(run)

    def pause(self) -> None:
        """Pauses the process like SIGSTOP: its timers are late, and data that arrives waits."""
        self.pauses += 1
        self.paused_until = inf
        if self.waiting_tasks is None and not self.dead:
            self.waiting_tasks = []

    def resume(self) -> None:
        """Ends one pause."""
        self.pauses -= 1
        if not self.pauses:
            self.paused_until = trio.current_time()
            self._run_waiting_tasks()

    def _run_waiting_tasks(self) -> None:
        tasks, self.waiting_tasks = self.waiting_tasks or [], None
        for task in tasks:
            GLOBAL_RUN_CONTEXT.runner.runq.append(task)

    def kill(self) -> None:
        """Ends the process like SIGKILL: none of its code runs any more."""
        self.dead = True
        self._run_waiting_tasks()
        if self.nursery is not None:
            self.nursery.cancel_scope.cancel()
        for scope in self._shields:
            scope.cancel()

    @contextmanager
    def shield(self) -> Iterator[None]:
        """A cancel scope that only `kill` cancels."""
        with trio.CancelScope(shield=True) as scope:
            if self.dead:
                scope.cancel()
            self._shields.add(scope)
            try:
                yield
            finally:
                self._shields.discard(scope)


def current_process() -> SimulatedProcess:
    return _process.get()


def process_of(context: contextvars.Context) -> SimulatedProcess | None:
    """Returns the process of a task with this context; None if it belongs to none."""
    return context.get(_process)


# -- threads -------------------------------------------------------------------


def block(function: Callable[..., Awaitable[Any]], *args: Any, shielded: bool = True) -> Any:
    """Waits, in a simulated thread, for the result of `function`. If `shielded`, the cancellation
    of the task that waits for the thread does not cancel it."""
    here = getcurrent()
    if here.parent is None:
        raise RuntimeError("this would block the event loop")
    return here.parent.switch(function, args, shielded)


async def _drive(process: SimulatedProcess, function: Callable[[], Any]) -> Any:
    """Run `function` as a thread of `process`, in this task."""
    thread = greenlet(function)
    thread.gr_context = contextvars.copy_context()
    answer = thread.switch()
    try:
        while not thread.dead:
            blocking_call, args, shielded = answer
            try:
                if shielded:
                    with process.shield():
                        value = await blocking_call(*args)
                    if process.dead:
                        await trio.sleep_forever()  # cancelled at once
                else:
                    value = await blocking_call(*args)
            except BaseException as error:
                if process.dead:
                    raise
                answer = thread.throw(error)
            else:
                answer = thread.switch(value)
        return answer
    finally:
        if not thread.dead:
            _abandon(thread)


def _abandon(thread: greenlet) -> None:
    """Ends a greenlet whose process has ended."""
    for _ in range(100):
        thread.throw(GreenletExit)
        if thread.dead:
            return
    raise AssertionError("a thread continues after its process was killed")


async def run_in_thread(
    function: Callable[..., Any],
    *args: Any,
    abandon_on_cancel: bool = False,
    limiter: trio.CapacityLimiter | None = None,
    **_: Any,
) -> Any:
    """Replaces `trio.to_thread.run_sync`."""
    process = current_process()
    borrower = object()
    if limiter is None:
        await trio.lowlevel.checkpoint()
    else:
        await limiter.acquire_on_behalf_of(borrower)

    def call() -> Any:
        return function(*args)

    if not abandon_on_cancel:
        try:
            return await _drive(process, call)
        finally:
            if limiter is not None:
                limiter.release_on_behalf_of(borrower)

    outcome: list[Any] = []
    ended = trio.Event()

    async def drive() -> None:
        try:
            outcome.append((await _drive(process, call), None))
        except trio.Cancelled:
            raise
        except BaseException as error:
            if process.dead:
                raise
            outcome.append((None, error))
        finally:
            if limiter is not None:
                limiter.release_on_behalf_of(borrower)
            ended.set()

    process.start_soon(drive)
    await ended.wait()
    value, error = outcome[0]
    if error is not None:
        raise error
    return value


def run_from_thread(function: Callable[..., Awaitable[Any]], *args: Any, **_: Any) -> Any:
    """Replaces `trio.from_thread.run`."""
    return block(function, *args, shielded=False)


def run_sync_from_thread(function: Callable[..., Any], *args: Any, **_: Any) -> Any:
    """Replaces `trio.from_thread.run_sync`."""
    return function(*args)


class Thread:
    """Replaces `threading.Thread`."""

    def __init__(
        self,
        group: None = None,
        target: Callable[..., Any] = lambda: None,
        name: str = "",
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        *,
        daemon: bool | None = None,
    ) -> None:
        self.name = name
        self.daemon = daemon
        self._call = lambda: target(*args, **(kwargs or {}))
        self._started = False
        self._ended = trio.Event()

    def start(self) -> None:
        process = current_process()
        if process.nursery is None or process.dead or not process.can_start_threads:
            raise RuntimeError("can't start new thread")
        self._started = True
        process.start_soon(self._run, process)

    async def _run(self, process: SimulatedProcess) -> None:
        try:
            await _drive(process, self._call)
        finally:
            self._ended.set()

    def is_alive(self) -> bool:
        return self._started and not self._ended.is_set()

    def join(self, timeout: float | None = None) -> None:
        block(_until, self._ended, timeout)


async def _until(event: trio.Event, timeout: float | None) -> bool:
    with trio.move_on_after(inf if timeout is None else max(0.0, timeout)):
        await event.wait()
    return event.is_set()


class Event:
    """Replaces `threading.Event`."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def set(self) -> None:
        self._event.set()

    def clear(self) -> None:
        if self._event.is_set():
            self._event = trio.Event()

    def is_set(self) -> bool:
        return self._event.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        if self._event.is_set():
            return True
        answer: bool = block(_until, self._event, timeout)
        return answer


class Condition:
    """Replaces `threading.Condition`. Its lock is never contended, because no thread is suspended
    while it holds the lock."""

    def __init__(self, lock: Any = None) -> None:
        self._lock = lock or Lock()
        self._waiting: list[trio.Event] = []

    def __enter__(self) -> Any:
        return self._lock.__enter__()

    def __exit__(self, *error: Any) -> Any:
        return self._lock.__exit__(*error)

    def acquire(self, *args: Any) -> Any:
        return self._lock.acquire(*args)

    def release(self) -> Any:
        return self._lock.release()

    def wait(self, timeout: float | None = None) -> bool:
        event = trio.Event()
        self._waiting.append(event)
        try:
            answer: bool = block(_until, event, timeout)
        finally:
            if event in self._waiting:
                self._waiting.remove(event)
        return answer

    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        end = inf if timeout is None else trio.current_time() + timeout
        while not (found := predicate()):
            left = end - trio.current_time()
            if left <= 0:
                break
            self.wait(None if left == inf else left)
        return found

    def notify(self, n: int = 1) -> None:
        for event in self._waiting[:n]:
            event.set()
        del self._waiting[:n]

    def notify_all(self) -> None:
        self.notify(len(self._waiting))


class Lock:
    """Replaces `threading.Lock` and `RLock`, and does nothing: a thread is suspended only where it
    waits, and the code under test holds no lock there."""

    def __enter__(self) -> bool:
        return True

    def __exit__(self, *error: object) -> None:
        pass

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        return True

    def release(self) -> None:
        pass

    def locked(self) -> bool:
        return False


class Local:
    """Replaces `threading.local`."""

    def __init__(self) -> None:
        object.__setattr__(self, "_values", WeakKeyDictionary())

    def _of_thread(self) -> dict[str, Any]:
        values: dict[str, Any] = self._values.setdefault(getcurrent(), {})
        return values

    def __getattr__(self, name: str) -> Any:
        try:
            return self._of_thread()[name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: Any) -> None:
        self._of_thread()[name] = value


# -- clocks and random numbers ---------------------------------------------------------


def now() -> float:
    """Replaces `time.time`: the clock of the calling process."""
    return EPOCH + trio.current_time() + _process.get().skew


def _sleep(seconds: float) -> None:
    block(trio.sleep, seconds)


def urandom(size: int) -> bytes:
    return _process.get().rng.randbytes(size)


class _ProcessRandom:
    """Replaces `random`: the generator of the calling process."""

    def __getattr__(self, name: str) -> Any:
        if name in ("Random", "SystemRandom"):
            return random.Random
        return lambda *args, **kwargs: getattr(_process.get().rng, name)(*args, **kwargs)


class _PatchedModule:
    """A module with some names replaced."""

    def __init__(self, module: ModuleType, **others: Any) -> None:
        self._module = module
        self.__dict__.update(others)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def _shutdown(sock: Any, how: int) -> None:
    sock.shutdown(how)


_RANDOM = _ProcessRandom()
_SUBSTITUTES: dict[int, Any] = {
    id(real): substitute
    for real, substitute in (
        (time, _PatchedModule(time, time=now, monotonic=trio.current_time, sleep=_sleep,
                       time_ns=lambda: int(now() * 1e9))),
        (time.time, now),
        (time.monotonic, trio.current_time),
        (time.sleep, _sleep),
        (random, _RANDOM),
        (random.uniform, _RANDOM.uniform),
        (random.random, _RANDOM.random),
        (os, _PatchedModule(os, urandom=urandom, getpid=lambda: id(_process.get()))),
        (os.urandom, urandom),
        (socket, _PatchedModule(socket, socket=SimpleNamespace(shutdown=_shutdown))),
        (threading, _PatchedModule(threading, Thread=Thread, Event=Event, Condition=Condition,
                            Lock=Lock, RLock=Lock, local=Local)),
        (threading.Thread, Thread),
        (threading.Event, Event),
        (threading.Condition, Condition),
    )
}  # fmt: skip


@contextmanager
def simulated(*modules: str) -> Iterator[None]:
    """Install the replacements in the modules whose names have this prefix, and in Trio."""
    undo: list[tuple[Any, str, Any]] = []

    def replace(owner: Any, name: str, value: Any) -> None:
        undo.append((owner, name, getattr(owner, name)))
        setattr(owner, name, value)

    replace(trio.to_thread, "run_sync", run_in_thread)
    replace(trio.from_thread, "run", run_from_thread)
    replace(trio.from_thread, "run_sync", run_sync_from_thread)
    for module_name, module in sorted(sys.modules.items()):
        if not module_name.startswith(modules):
            continue
        for name, value in list(vars(module).items()):
            substitute = _SUBSTITUTES.get(id(value))
            if substitute is not None:
                replace(module, name, substitute)
            elif type(value) is type(_LOCAL):
                replace(module, name, Local())
    try:
        yield
    finally:
        for owner, name, value in reversed(undo):
            setattr(owner, name, value)


_LOCAL = threading.local()
