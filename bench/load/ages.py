"""The ages of events when they arrived. Pure."""

from __future__ import annotations

from attrs import define, field

__all__ = ["Ages"]

LONGEST = 30_000  # milliseconds; what is older counts as this


@define
class Ages:
    """Counts ages in whole milliseconds, so that the memory does not depend on their number."""

    _counts: list[int] = field(factory=lambda: [0] * (LONGEST + 1))

    def add(self, microseconds: int, times: int = 1) -> None:
        self._counts[min(max(microseconds, 0) // 1000, LONGEST)] += times

    @property
    def count(self) -> int:
        return sum(self._counts)

    def percentile(self, percent: float) -> float:
        """Returns the age in milliseconds that `percent` of all do not exceed; 0 if there are none.

        Rounded up to the next whole millisecond.
        """
        wanted = self.count * percent / 100
        counted = 0
        for milliseconds, count in enumerate(self._counts):
            counted += count
            if count and counted >= wanted:
                return milliseconds + 1.0
        return 0.0

    def clear(self) -> None:
        self._counts = [0] * (LONGEST + 1)
