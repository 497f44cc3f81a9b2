"""Refuses several processes of one server without a shared broker. With a memory broker in each
process they would lose updates without an error: an update reaches one process, the clients that
watch its job are connected to others."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import parent_process
from pathlib import Path

from ..model.errors import InvalidSettings

__all__ = ["claim_single_process"]


@contextmanager
def claim_single_process(*, shared: bool) -> Iterator[None]:
    """Claims to be the only gateway among the processes that the parent process started, unless
    all of them use one broker (`shared`).

    Servers start their processes with `multiprocessing`; a process that was started in another way
    is considered the only one.

    Raises:
        InvalidSettings: Another process has the claim.
    """
    parent = parent_process()
    if shared or parent is None or os.name != "posix":
        yield
        return
    import fcntl  # not on Windows, where the gateway does not run but this may be imported

    path = Path(tempfile.gettempdir(), f"progress-gateway-{os.getuid()}-{parent.pid}.lock")
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InvalidSettings(
                "several server processes without a Redis would each have separate jobs: "
                "name a Redis that they share (--redis), or start one process",
                field="redis",
            ) from None
        try:
            yield
        finally:
            with suppress(OSError):
                path.unlink()
