"""A percentage as it is kept: two digits after the point, and below 100 as long as it is."""

from __future__ import annotations

from .constants import ALMOST_100

__all__ = ["two_digits"]


def two_digits(percent: float) -> float:
    """Round to two digits; what is less than 100 stays so, as 100 % of a job means all of it."""
    return round(percent, 2) if percent >= 100 else min(round(percent, 2), ALMOST_100)
