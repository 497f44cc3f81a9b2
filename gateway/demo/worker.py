"""What all workers of the demo share: they are nice, and they do not outlive it.

A worker's standard input is a pipe whose other end the demo holds. However the demo ends,
SIGKILL included, the kernel closes that end, and the worker sees it.
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

NICENESS = 10  # the page and everything else on this machine go first
WAIT = 3.0  # seconds for the last word: the gateway is on this machine


def start(**about: Any) -> Job:
    """The job this process was started for: its name is the first argument.

    `about` goes to `Job`. SIGTERM cancels the job.
    """
    os.nice(NICENESS)
    warnings.simplefilter("ignore")  # old code in the library is not for us to mend
    signal.signal(signal.SIGTERM, _stop)
    threading.Thread(target=_end_with_the_demo, daemon=True).start()
    return Job(sys.argv[1], timeout=WAIT, **about)


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _end_with_the_demo() -> None:
    os.read(0, 1)
    os._exit(1)  # the gateway is gone as well: nobody is left to report to
