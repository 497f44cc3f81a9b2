"""Reports readings as updates of the job."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from .matching import Profile
from .reader import Reading

__all__ = ["DryRun", "Reported", "Reporter"]

MAX_PERCENT = 99.0
"""The maximum percentage before the command has ended."""


class Reported(Protocol):
    """The methods of `Job` that this package uses."""

    @property
    def name(self) -> str: ...
    @property
    def update(self) -> Callable[..., None]: ...
    @property
    def request(self) -> object: ...
    def on_request(self, function: Callable[[Any], object]) -> None: ...
    def succeed(self) -> None: ...
    def cancel(self, message: str) -> None: ...
    def fail(self, error: str) -> None: ...
    def wait(self) -> object: ...
    def __enter__(self) -> object: ...


class Reporter:
    """Updates `job` with the new values of readings."""

    def __init__(self, job: Reported, *, unit: str | None = None) -> None:
        self._job = job
        self._unit = unit
        self._reported: dict[str, Any] = {}

    def report(self, reading: Reading) -> None:
        """Updates the job."""
        fields: dict[str, Any] = {}
        if reading.message is not None:
            fields["message"] = reading.message
        phase = reading.phase
        if phase is not None:
            overall = phase.overall
            fields |= {
                "phase": phase.name,
                "done": phase.done,
                "total": phase.total,
                "overall": None if overall is None else min(round(100 * overall, 2), MAX_PERCENT),
            }
            if phase.done is not None:
                fields["unit"] = self._unit
        new = {
            name: v
            for name, v in fields.items()
            if v != self._reported.get(name, _UNREPORTED.get(name))
        }
        self._reported |= new
        if new:
            self._job.update(**new)


_UNREPORTED: dict[str, object] = {"overall": object()}
"""The values of fields before the first report, if they are not None."""


class DryRun:
    """Replaces a job: prints to stderr the updates that would be sent."""

    def __init__(self, name: str, profile: Profile | None, command: Sequence[str]) -> None:
        self.name = name
        reading = f"profile {profile.name}" if profile else "no profile, any program's output"
        self._print(f"{command[0]} is read with {reading}")

    def update(self, **fields: Any) -> None:
        """Prints the fields that are new."""
        printed = {("percent" if k == "overall" else k): v for k, v in fields.items()}
        if printed.keys() - {"message"}:
            self._print(", ".join(f"{name} {value}" for name, value in printed.items()))

    @property
    def request(self) -> None:
        """A dry run receives no requests."""
        return None

    def on_request(self, function: Callable[[Any], object]) -> None:
        """A dry run receives no requests."""

    def cancel(self, message: str) -> None:
        """Prints the final state."""
        self._print(f"cancelled, {message}")

    def succeed(self) -> None:
        """Prints the final state."""
        self._print("succeeded")

    def fail(self, error: str) -> None:
        """Prints the final state."""
        self._print(f"failed, {error}")

    def wait(self) -> object:
        """Returns at once, because nothing is sent."""
        return True

    def __enter__(self) -> DryRun:
        return self

    def _print(self, text: str) -> None:
        print(f"gateway: {text}", file=sys.stderr, flush=True)  # noqa: T201 - the purpose of this option
