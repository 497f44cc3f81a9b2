"""The jobs of the demo, and how each one should end."""

from __future__ import annotations

import sys

from attrs import frozen

from ..model.state import State

__all__ = ["JOBS", "DemoJob"]

_ID_PREFIX = f"python{sys.version_info.major}.{sys.version_info.minor}"


@frozen
class DemoJob:
    """A job of the demo."""

    name: str
    """The id of the job."""
    module: str
    """The module that its worker runs."""
    ending: str
    """The expected final status, or `lost`."""
    error: str = ""
    """The expected beginning of its error."""
    killed_at: float | None = None
    """The percentage at which its worker is killed; None if it is not."""

    def ended_as_expected(self, state: State) -> bool:
        """Returns whether the job has ended as expected."""
        if state.health == "lost":
            return self.ending == "lost"
        if state.status == "cancelled" and state.request is not None:
            return True  # the user has stopped it
        return state.status == self.ending and (state.error or "").startswith(self.error)


JOBS = (
    # The job that takes longest comes first. The second is a group with a Stop button.
    DemoJob(f"{_ID_PREFIX}:index", "gateway.demo.indexing", "lost", killed_at=40),
    DemoJob(f"{_ID_PREFIX}:checksums", "gateway.demo.hashing", "succeeded"),
    DemoJob(f"{_ID_PREFIX}:archive", "gateway.demo.archiving", "succeeded"),
    DemoJob(f"{_ID_PREFIX}:syntax-trees", "gateway.demo.parsing", "succeeded"),
    DemoJob(
        f"{_ID_PREFIX}:word-count", "gateway.demo.reading", "failed", error="UnicodeDecodeError"
    ),
)
"""All jobs, in the order in which they are started."""
