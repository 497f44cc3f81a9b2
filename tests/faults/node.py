"""`gateway serve`, which on SIGUSR2 prints how many Trio tasks are living.

The command line is `gateway`'s own and so is all the rest; only `trio.run` is given an
instrument that counts, because nobody outside of a process can.
"""

from __future__ import annotations

import os
import signal
from functools import partial
from itertools import count
from typing import Any

import trio

from gateway.cli import main


class TaskCounter(trio.abc.Instrument):
    """Counts tasks, and says how many there are."""

    def __init__(self) -> None:
        self._living = 0
        self._answers = count(1)

    def task_spawned(self, task: Any) -> None:
        self._living += 1

    def task_exited(self, task: Any) -> None:
        self._living -= 1

    def answer(self, *signal: object) -> None:
        """Print the number of this answer, and how many tasks are living."""
        os.write(1, f"task_counter {next(self._answers)}: {self._living} tasks\n".encode())


if __name__ == "__main__":
    task_counter = TaskCounter()
    run: Any = partial(trio.run, instruments=[task_counter])
    trio.run = run
    signal.signal(signal.SIGUSR2, task_counter.answer)
    main()
