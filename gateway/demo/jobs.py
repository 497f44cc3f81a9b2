"""The jobs of the demo, and how each should end."""

from __future__ import annotations

import sys

from attrs import frozen

from ..model.state import State

__all__ = ["JOBS", "DemoJob"]

_ABOUT = f"python{sys.version_info.major}.{sys.version_info.minor}"


@frozen
class DemoJob:
    """A job of the demo."""

    name: str
    """Its id."""
    module: str
    """The module that it runs."""
    ending: str
    """How it should end: a final status, or `lost`."""
    error: str = ""
    """The beginning of its error, if it should fail."""
    killed_at: float | None = None
    """The percentage at which it is killed."""

    def ended_as_expected(self, state: State) -> bool:
        """Whether it ended as it should."""
        if state.health == "lost":
            return self.ending == "lost"
        if state.status == "cancelled" and state.request is not None:
            return True  # the user has stopped it
        return state.status == self.ending and (state.error or "").startswith(self.error)


JOBS = (
    # The job that takes longest comes first. The second is a group with a Stop button.
    DemoJob(f"{_ABOUT}:index", "gateway.demo.indexing", "lost", killed_at=40),
    DemoJob(f"{_ABOUT}:checksums", "gateway.demo.hashing", "succeeded"),
    DemoJob(f"{_ABOUT}:archive", "gateway.demo.archiving", "succeeded"),
    DemoJob(f"{_ABOUT}:syntax-trees", "gateway.demo.parsing", "succeeded"),
    DemoJob(f"{_ABOUT}:word-count", "gateway.demo.reading", "failed", error="UnicodeDecodeError"),
)
"""All jobs, in the order in which they are started."""
