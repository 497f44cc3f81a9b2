"""Estimates the rate of a job and its end. Pure arithmetic; the time is an argument.

The rate is an exponential moving average of percent per second. Its weight is written as dt / (dt +
window), which needs no `exp`, so that a second implementation (Lua) gets the same digits. The
window grows with the job: at first it is the whole observed time (a plain average, so that one
quick first step does not make the estimate too short); for a job that runs for an hour it is some
minutes.

There is no estimate before `ETA_WARM_UP` seconds of observed progress, and none after the estimated
time has passed without progress.
"""

from __future__ import annotations

from attrs import evolve, frozen

from .constants import ETA_FIRST_WINDOW, ETA_WARM_UP, ETA_WINDOW_SHARE

__all__ = ["RateEstimator"]


@frozen
class RateEstimator:
    """The observed progress of one attempt."""

    first_at: float
    """The time when the first percentage was observed (Unix seconds)."""
    last_at: float
    """The time when the percentage last rose (Unix seconds)."""
    percent: float
    """The percentage at `last_at`."""
    rate: float = 0.0
    """Percent per second, smoothed; six significant digits, the same in every language."""

    def observe(self, percent: float, *, now: float) -> RateEstimator:
        """Returns the estimator after `percent` was reported at `now`."""
        elapsed = now - self.last_at
        if percent <= self.percent or elapsed <= 0:
            return self
        latest = (percent - self.percent) / elapsed
        observed_for = self.last_at - self.first_at
        window = min(max(ETA_FIRST_WINDOW, observed_for * ETA_WINDOW_SHARE), observed_for)
        weight = elapsed / (elapsed + window)
        rate = self.rate + (latest - self.rate) * weight
        return evolve(self, last_at=now, percent=percent, rate=float(f"{rate:.6g}"))

    def eta(self, *, now: float) -> float | None:
        """Returns the seconds left, to a tenth; None if there is no estimate."""
        if not self.rate or self.percent >= 100 or now - self.first_at < ETA_WARM_UP:
            return None
        left = round((100 - self.percent) / self.rate - (now - self.last_at), 1)
        return left if left > 0 else None
