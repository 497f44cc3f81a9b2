"""What a client saw, as values, in the order in which it saw it. Pure.

Times are seconds on one clock of the observer's, the same for all clients of a story.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from attrs import frozen

__all__ = ["Account", "Ended", "Json", "Opened", "Position", "Sight", "Told", "matches"]

Json = dict[str, Any]
Position = tuple[int, int]
"""(epoch, seq); an epoch of 0 stands for the wire's `null`: a job never seen."""


@frozen
class Opened:
    """It has a connection to this node."""

    at: float
    node: str


@frozen
class Told:
    """The gateway said this."""

    at: float
    said: Json


@frozen
class Ended:
    """Its connection to this node ended, or could not be had, without its own doing."""

    at: float
    node: str
    why: str


Sight = Opened | Told | Ended


@frozen
class Account:
    """All that one client saw."""

    client: str
    mode: Literal["latest", "every"]
    sights: Sequence[Sight]

    def told(self, type_: str) -> list[Told]:
        """All objects of this type."""
        return [s for s in self.sights if isinstance(s, Told) and s.said["type"] == type_]

    def states(self, job: str) -> list[tuple[float, Json | None]]:
        """What it was told of `job`, and when."""
        return [(s.at, s.said["state"]) for s in self.told("progress") if s.said["job"] == job]


def matches(state: Json | None, wanted: Json) -> bool:
    """Whether `state` has all that is `wanted`."""
    return state is not None and all(state.get(name) == wanted[name] for name in wanted)
