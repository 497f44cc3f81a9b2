"""What there is one of in a process: the lock, and the list of senders.

One lock guards all jobs and queues. What it guards takes microseconds, no I/O ever
happens under it, and after a fork a single object needs to be replaced. It is re-entrant,
so that a signal handler may report progress too.

Fork: only the forking thread lives on in the child, while locks stay as other threads
held them. The child gets a new lock, and each sender starts afresh. The one lock that
cannot be replaced is the interpreter's per-module import lock; a sender therefore
imports under `importing`, and a fork waits for that.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from typing import Any, Protocol
from weakref import WeakSet

from .limits import FORK

__all__ = ["flush_all", "flush_in_child", "importing", "lock", "members"]


class Member(Protocol):
    """What this module needs of a sender."""

    def after_fork(self) -> None:
        """Become usable in the child."""

    def flush(self) -> None:
        """Wait, for a bounded time, until what is due has been sent."""


lock = threading.RLock()  # read it as `process.lock`: a fork puts another one here
importing = threading.Lock()
members: WeakSet[Member] = WeakSet()  # one for each gateway, while it has a job or a thread

_forking: int | None = None  # the thread whose fork holds `importing`
_at_end: Any = None  # what `flush_in_child` has registered


def flush_in_child() -> None:
    """Have `flush_all` called at the end of a child made by `multiprocessing`.

    Such a child ends by `os._exit`, without `atexit`. Called when a sender starts its
    thread, as multiprocessing forgets what was registered before its fork.
    """
    global _at_end
    util = sys.modules.get("multiprocessing.util")
    parent = sys.modules.get("multiprocessing.process")
    if util is None or parent is None or parent.parent_process() is None:
        return
    if _at_end is None or not _at_end.still_active():
        _at_end = util.Finalize(None, flush_all, exitpriority=0)


def flush_all() -> None:
    """Wait until each sender has sent what is due, or has no hope to."""
    for member in list(members):
        member.flush()


def _before_fork() -> None:
    global _forking
    # Bounded: if the importing thread waits for an import of this one, neither would go on.
    if importing.acquire(timeout=FORK):
        _forking = threading.get_ident()


def _after_fork_in_parent() -> None:
    global _forking
    if _forking == threading.get_ident():
        _forking = None
        importing.release()


def _after_fork_in_child() -> None:
    global lock, importing, _forking, _at_end
    lock = threading.RLock()
    importing = threading.Lock()
    _forking = _at_end = None
    for member in list(members):
        member.after_fork()


atexit.register(flush_all)
if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
