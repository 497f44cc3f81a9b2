"""Lets tests that are marked `alone` (because they measure delays) run without other tests; all
others run concurrently in the processes of `pytest -n`.

There are two lock files, locked with `flock`. Each test holds `running` while it runs, shared or
exclusively. To get it, a test first acquires `waiting`, so that later tests queue behind one that
waits to be alone. A process keeps its exclusive turn until it has run all consecutive tests of that
kind, because each new turn would have to wait for the longest test of the others.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO

with suppress(ImportError):
    import fcntl

__all__ = ["Turns"]


class Turns:
    """The turns of this process. One process alone needs none."""

    def __init__(self) -> None:
        self._run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
        self._held: IO[str] | None = None
        self._alone = False

    def begin(self, *, alone: bool) -> None:
        """Wait until a test may run."""
        if self._run is None or (alone and self._alone):
            return
        self.end()
        with self._open("waiting") as waiting:
            fcntl.flock(waiting, fcntl.LOCK_EX)
            self._held = self._open("running")
            fcntl.flock(self._held, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
            fcntl.flock(waiting, fcntl.LOCK_UN)
        self._alone = alone

    def end(self) -> None:
        """Let others run."""
        if self._held is not None:
            # Closing alone would not do while a child that was forked has the file, too.
            fcntl.flock(self._held, fcntl.LOCK_UN)
            self._held.close()
        self._held, self._alone = None, False

    def _open(self, name: str) -> IO[str]:
        return Path(tempfile.gettempdir(), f"pytest-{self._run}-{name}.lock").open("w")
