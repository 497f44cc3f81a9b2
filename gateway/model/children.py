"""The contributions of a group's children, and their sums.

A `/` in an id makes a child: `batch:1/file-7` is a child of `batch:1`. All arithmetic uses whole
numbers (weights in thousandths, percentages in hundredths), so that a sum depends neither on the
order of its terms nor on the language that computes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated

from attrs import evolve, frozen
from msgspec import Meta, Struct

from . import constants
from .statuses import FINAL, Health, Status

__all__ = [
    "Children",
    "Contribution",
    "Expected",
    "Sums",
    "Weight",
    "contribution_of",
    "groups_above",
    "total_of",
]

Expected = (
    Annotated[int, Meta(ge=0, le=constants.MAX_EXPECTED)]
    | Annotated[float, Meta(ge=0, le=constants.MAX_EXPECTED)]
)
Weight = (
    Annotated[int, Meta(ge=1, le=constants.MAX_WEIGHT)]
    | Annotated[float, Meta(ge=constants.MIN_WEIGHT, le=constants.MAX_WEIGHT)]
)
WEIGHT_UNITS = 1000
"""Weight 1 in thousandths: weights have three decimal places."""
COMPLETE = 10_000
"""100 percent in hundredths of a percent: percentages have two decimal places."""


class Children(Struct, frozen=True, gc=False):
    """The numbers of a group's children by status, as clients receive them."""

    expected: Expected | None = None
    """The total weight of all children, including those that have not reported yet. None: the
    total is unknown, so more children may come."""
    queued: int = 0
    running: int = 0
    """Including children whose worker is silent."""
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0


@frozen
class Contribution:
    """The weight, progress and status that a child adds to its group."""

    attempt: int
    """The child's attempt; 0 if the child's record was dropped after its end."""
    weight: int
    """The child's weight in thousandths."""
    progress: int
    """The child's progress in hundredths of a percent; 10,000 after its end, also if it failed."""
    status: Status
    health: Health = "ok"
    """The health of a running child."""

    @property
    def ended(self) -> bool:
        return self.status in FINAL


@frozen
class Sums:
    """The sum of some contributions."""

    queued: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    weight: int = 0
    weighted_progress: int = 0
    """The sum of weight × progress."""
    ended: int = 0
    """The weight of the children that have ended."""
    stalled: int = 0
    """The running children that are stalled."""
    lost: int = 0
    """The running children that are lost."""

    @property
    def live(self) -> bool:
        """Whether any child has not ended."""
        return self.queued + self.running > 0

    @property
    def health(self) -> Health:
        """The health of the healthiest running child; ok if none is running."""
        if self.stalled + self.lost < self.running or not self.running:
            return "ok"
        return "stalled" if self.stalled else "lost"

    def with_change(self, old: Contribution | None, new: Contribution | None) -> Sums:
        """Returns the sums after a child's contribution changes from `old` to `new`."""
        sums = self
        for each, sign in ((old, -1), (new, 1)):
            if each is not None:
                changed = {
                    each.status: getattr(sums, each.status) + sign,
                    "weight": sums.weight + sign * each.weight,
                    "weighted_progress": sums.weighted_progress
                    + sign * each.weight * each.progress,
                    "ended": sums.ended + sign * each.weight * each.ended,
                }
                if each.health != "ok":
                    changed[each.health] = getattr(sums, each.health) + sign
                sums = evolve(sums, **changed)
        return sums


def total_of(contributions: Iterable[Contribution]) -> Sums:
    """Returns the sum of the contributions."""
    sums = Sums()
    for contribution in contributions:
        sums = sums.with_change(None, contribution)
    return sums


def contribution_of(
    attempt: int,
    status: Status,
    *,
    percent: float | None,
    weight: float | None,
    health: Health = "ok",
) -> Contribution:
    """Returns the contribution of a child in this state."""
    progress = COMPLETE if status in FINAL else round((percent or 0) * 100)
    units = WEIGHT_UNITS if weight is None else round(weight * WEIGHT_UNITS)
    return Contribution(attempt, units, progress, status, health if status == "running" else "ok")


def groups_above(job: str) -> Iterator[tuple[str, str]]:
    """Yields the groups above a job, from the innermost to the outermost, each with the name of its
    child on this path. A node's own jobs (`!…`) are in no group."""
    child = job
    for _ in range(constants.MAX_GROUP_LEVELS):
        group, slash, name = child.rpartition("/")
        if not slash or group.startswith("!"):
            return
        yield group, name
        child = group
