"""Runs code in other processes: in forks of the test's process, and in new Pythons."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from .fake_gateway import DEADLINE

__all__ = ["fork", "forks", "joined", "python"]

# Python 3.12 warns of any fork in a process with threads; that is what is tested here.
forks = [
    pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system"),
]


def fork(child: Callable[[], object]) -> int:
    """Runs `child` in a fork. Returns its pid. The child exits with 0 unless `child` raises."""
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


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
