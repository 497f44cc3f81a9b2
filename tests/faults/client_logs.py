"""What a client received, as values in order of time. Pure.

Times are seconds on one clock, which all clients of a scenario share.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from attrs import frozen

__all__ = [
    "ClientLog",
    "Connected",
    "Disconnected",
    "Json",
    "Observation",
    "Position",
    "Received",
    "matches",
]

Json = dict[str, Any]
Position = tuple[int, int]
"""(epoch, seq); epoch 0 stands for the protocol's `null`: a job that was never reported."""


@frozen
class Connected:
    """The client has connected to this node."""

    at: float
    node: str


@frozen
class Received:
    """The gateway sent this message."""

    at: float
    message: Json


@frozen
class Disconnected:
    """The client's connection to this node ended or failed, and the client did not close it."""

    at: float
    node: str
    why: str


Observation = Connected | Received | Disconnected


@frozen
class ClientLog:
    """Everything that one client received."""

    client: str
    mode: Literal["latest", "every"]
    observations: Sequence[Observation]

    def received(self, type_: str) -> list[Received]:
        """Returns all messages of this type that the client received."""
        return [
            s for s in self.observations if isinstance(s, Received) and s.message["type"] == type_
        ]

    def states(self, job: str) -> list[tuple[float, Json | None]]:
        """Returns the states of `job` that the client received, with their times."""
        return [
            (s.at, s.message["state"]) for s in self.received("progress") if s.message["job"] == job
        ]


def matches(state: Json | None, wanted: Json) -> bool:
    """Returns whether `state` has all fields of `wanted`."""
    return state is not None and all(state.get(name) == wanted[name] for name in wanted)
