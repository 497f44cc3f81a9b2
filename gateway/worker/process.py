"""The global state of a process: the lock, and the list of senders.

One lock guards all jobs and queues. It is held for microseconds and never during I/O, and after a
fork only one object must be replaced. It is re-entrant, so that a signal handler may report
progress too.

Fork: only the forking thread exists in the child, while the locks stay as other threads held them.
So the child gets a new lock, and each sender is reset. The interpreter's import locks cannot be
replaced, so a sender imports under the lock `importing`, and a fork waits for that.

Exit: daemon threads stop when the interpreter is finalizing, and one of them may hold the lock.
So the last `atexit` function replaces the lock by one that does nothing once finalization has
begun; no other thread is running then.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from typing import Any, Protocol
from weakref import WeakSet

from .imported import imported
from .limits import FORK

__all__ = [
    "flush_all",
    "flush_in_child",
    "importing",
    "lock",
    "members",
    "rlock",
    "too_late_logged",
]


class Lock(Protocol):
    """The methods of the lock that jobs use."""

    def acquire(self) -> object: ...
    def release(self) -> None: ...
    def __enter__(self) -> object: ...
    def __exit__(self, *error: Any) -> None: ...


class Member(Protocol):
    """The methods of a sender that this module uses."""

    def before_fork(self) -> None:
        """Prepare for a fork."""

    def after_fork(self) -> None:
        """Reset the sender in the child."""

    def flush(self) -> None:
        """Wait, for a limited time, until everything that is due was sent."""


rlock = threading.RLock()
lock: Lock = rlock
"""The lock that jobs use. Always read it as `process.lock`, because it is replaced: see Exit."""
importing = threading.Lock()
members: WeakSet[Member] = WeakSet()  # the senders: one per gateway, while it has a job or a thread

too_late_logged = False
"""Whether it was logged that nothing is sent any more, because the interpreter is finalizing."""

_forking: int | None = None  # the thread whose fork holds `importing`
_at_end: Any = None  # what `flush_in_child` has registered


def flush_in_child() -> None:
    """Register `flush_all` for the end of a child process of `multiprocessing`.

    Such a child ends with `os._exit`, without `atexit`. Call it when a sender starts its thread,
    because multiprocessing drops functions that were registered before its fork.
    """
    global _at_end
    util = imported("multiprocessing.util", "Finalize")
    process = imported("multiprocessing.process", "parent_process")
    if util is None or process is None or process[0]() is None:
        return
    if _at_end is None or not _at_end.still_active():
        _at_end = util[0](None, flush_all, exitpriority=0)


def flush_all() -> None:
    """Wait until each sender has sent everything that is due, or has given up."""
    for member in list(members):
        member.flush()


class _LateLock:
    """`rlock` until the interpreter is finalizing, then no lock."""

    def acquire(self) -> None:
        if not sys.is_finalizing():
            rlock.acquire()

    def release(self) -> None:
        if not sys.is_finalizing():
            rlock.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *error: object) -> None:
        self.release()


def _at_exit() -> None:
    global lock
    flush_all()
    lock = _LateLock()


def _before_fork() -> None:
    global _forking
    # With a timeout, because the importing thread may wait for an import of this thread.
    if importing.acquire(timeout=FORK):
        _forking = threading.get_ident()
    with lock:
        for member in list(members):
            member.before_fork()


def _after_fork_in_parent() -> None:
    global _forking
    if _forking == threading.get_ident():
        _forking = None
        importing.release()


def _after_fork_in_child() -> None:
    global rlock, lock, importing, _forking, _at_end
    lock = rlock = threading.RLock()
    importing = threading.Lock()
    _forking = _at_end = None
    for member in list(members):
        member.after_fork()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
