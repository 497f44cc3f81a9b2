"""The global state of a process: the lock, and the list of senders.

One lock guards all jobs and queues. The lock is held for microseconds and never during I/O, and
after a fork only one object must be replaced. The lock is re-entrant, so that a signal handler may
report progress too.

Fork: only the forking thread exists in the child, while the locks stay as other threads held them.
So the child gets a new lock, and each sender is reset. The interpreter's import locks cannot be
replaced, so a sender imports modules while it holds `import_lock`, and a fork waits for that lock.

Exit: daemon threads stop when the interpreter is finalizing, and one of them may hold the lock.
So the last `atexit` function replaces the lock by one that does nothing once finalization has
begun; then no other thread is running.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from typing import Any, Protocol
from weakref import WeakSet

from .imported import already_imported
from .limits import FORK_TIMEOUT

__all__ = [
    "flush_all",
    "flush_at_child_exit",
    "import_lock",
    "lock",
    "logged_finalizing",
    "reentrant_lock",
    "senders",
]


class Lock(Protocol):
    """The methods of the lock that jobs use."""

    def acquire(self) -> object: ...
    def release(self) -> None: ...
    def __enter__(self) -> object: ...
    def __exit__(self, *error: Any) -> None: ...


class RegisteredSender(Protocol):
    """The methods of a sender that this module uses."""

    def before_fork(self) -> None:
        """Prepares for a fork."""

    def after_fork(self) -> None:
        """Resets the sender in the child."""

    def flush(self) -> None:
        """Waits, for a limited time, until everything that is due was sent."""


reentrant_lock = threading.RLock()
lock: Lock = reentrant_lock
"""The lock that jobs use. Always read it as `process_state.lock`, because it is replaced: see
Exit."""
import_lock = threading.Lock()
"""Held while a sender imports modules."""
senders: WeakSet[RegisteredSender] = WeakSet()
"""One sender per gateway, while it has a job or a thread."""

logged_finalizing = False
"""Whether a log line says that nothing is sent any more, because the interpreter is finalizing."""

_forking_thread: int | None = None  # the thread that holds `import_lock` during its fork
_exit_finalizer: Any = None  # registered by `flush_at_child_exit`


def flush_at_child_exit() -> None:
    """Registers `flush_all` for the exit of a child process of `multiprocessing`.

    Such a child exits with `os._exit`, without `atexit`. Call it when a sender starts its thread,
    because multiprocessing drops functions that were registered before its fork.
    """
    global _exit_finalizer
    util = already_imported("multiprocessing.util", "Finalize")
    parent_process = already_imported("multiprocessing.process", "parent_process")
    if util is None or parent_process is None or parent_process[0]() is None:
        return
    if _exit_finalizer is None or not _exit_finalizer.still_active():
        _exit_finalizer = util[0](None, flush_all, exitpriority=0)


def flush_all() -> None:
    """Waits until each sender has sent everything that is due, or its time limit has passed."""
    for sender in list(senders):
        sender.flush()


class _ExitLock:
    """`reentrant_lock` until the interpreter is finalizing, then no lock."""

    def acquire(self) -> None:
        if not sys.is_finalizing():
            reentrant_lock.acquire()

    def release(self) -> None:
        if not sys.is_finalizing():
            reentrant_lock.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *error: object) -> None:
        self.release()


def _at_exit() -> None:
    global lock
    flush_all()
    lock = _ExitLock()


def _before_fork() -> None:
    global _forking_thread
    # With a timeout, because the importing thread may wait for an import of this thread.
    if import_lock.acquire(timeout=FORK_TIMEOUT):
        _forking_thread = threading.get_ident()
    with lock:
        for sender in list(senders):
            sender.before_fork()


def _after_fork_in_parent() -> None:
    global _forking_thread
    if _forking_thread == threading.get_ident():
        _forking_thread = None
        import_lock.release()


def _after_fork_in_child() -> None:
    global reentrant_lock, lock, import_lock, _forking_thread, _exit_finalizer
    lock = reentrant_lock = threading.RLock()
    import_lock = threading.Lock()
    _forking_thread = _exit_finalizer = None
    for sender in list(senders):
        sender.after_fork()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
