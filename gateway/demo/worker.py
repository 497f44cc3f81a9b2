"""The common part of the demo's workers: a low priority, and an exit when the demo ends.

A worker's standard input is a pipe whose other end is open in the demo. When the demo ends, even by
SIGKILL, the kernel closes that end, and the worker exits.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from types import FrameType
from typing import Any

from gateway import Job

__all__ = ["start"]

NICENESS = 10  # lower priority than the page and other programs
DELIVERY_TIMEOUT = 3.0  # seconds to wait until the gateway has the final state


def start(**options: Any) -> Job:
    """Starts the job of this process. Its name is the first argument.

    `options` are passed to `Job`. SIGTERM cancels the job.
    """
    os.nice(NICENESS)
    warnings.simplefilter("ignore")  # the library's own tests have old code
    signal.signal(signal.SIGTERM, _stop)
    threading.Thread(target=_exit_when_demo_exits, daemon=True).start()
    return Job(sys.argv[1], timeout=DELIVERY_TIMEOUT, **options)


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _exit_when_demo_exits() -> None:
    os.read(0, 1)
    os._exit(1)  # the gateway has exited too, so the final state cannot be reported
