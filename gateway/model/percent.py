"""Rounds percentages for storage: to two decimal places, but never up to 100."""

from __future__ import annotations

from .constants import ALMOST_100

__all__ = ["two_digits"]


def two_digits(percent: float) -> float:
    """Rounds to two decimal places. A value below 100 stays below it, because 100 % means
    complete."""
    return round(percent, 2) if percent >= 100 else min(round(percent, 2), ALMOST_100)
