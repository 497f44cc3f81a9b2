"""Finds the highest rate that a server sustains: doubles it until it fails, then halves. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

__all__ = ["highest"]

T = TypeVar("T")


def highest(
    probe: Callable[[float], T | None],
    *,
    start: float,
    factor: float = 2.0,
    precision: float = 1.06,
    max_rate: float = 1e7,
) -> tuple[float, T] | None:
    """Returns the highest rate at which `probe` does not return None, and what it returned.

    Tries `start` and goes up by `factor` while it passes, or down while it fails; then
    narrows the bracket until its ends are within `precision` of each other. None if not
    even a thousandth of `start` passes. No rate above `max_rate` is tried.
    """
    best: tuple[float, T] | None = None
    failed: float | None = None
    rate = start
    while rate >= start / 1000:
        measurement = probe(rate)
        if measurement is not None:
            best = (rate, measurement)
            if failed is not None or rate >= max_rate:
                break
            rate = min(rate * factor, max_rate)
        else:
            failed = rate
            if best is not None:
                break
            rate /= factor
    while best is not None and failed is not None and failed / best[0] > precision:
        rate = (best[0] * failed) ** 0.5
        measurement = probe(rate)
        if measurement is None:
            failed = rate
        else:
            best = (rate, measurement)
    return best
