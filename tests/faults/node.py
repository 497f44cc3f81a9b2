"""`gateway serve` that prints the number of its Trio tasks on SIGUSR2. The command line and
everything else are `gateway`'s own. Only `trio.run` gets an instrument, because tasks cannot be
counted from outside the process.
"""

from __future__ import annotations

import os
import signal
from functools import partial
from itertools import count
from typing import Any

import trio

from gateway.cli.__main__ import main


class TaskCounter(trio.abc.Instrument):
    """Counts tasks."""

    def __init__(self) -> None:
        self._living = 0
        self._answers = count(1)

    def task_spawned(self, task: Any) -> None:
        self._living += 1

    def task_exited(self, task: Any) -> None:
        self._living -= 1

    def answer(self, *signal: object) -> None:
        """Prints the serial number of this line, and the number of tasks."""
        os.write(1, f"task_counter {next(self._answers)}: {self._living} tasks\n".encode())


if __name__ == "__main__":
    task_counter = TaskCounter()
    run: Any = partial(trio.run, instruments=[task_counter])
    trio.run = run
    signal.signal(signal.SIGUSR2, task_counter.answer)
    main()
