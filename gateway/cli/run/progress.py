"""Converts the sightings of a whole run to the progress of its job. Pure.

Programs draw several bars: one after the other (`git clone`), inside each other (nested tqdm), or
at the same time (downloads). A label and a total identify a bar. A new *phase* begins

    if a bar drops by more than `LARGE_DROP` or restarts
    if another bar begins after the current one is complete
    if other bars end while the current one does not move: it was not a bar of the whole run

The percentage of the job is

    in the first phase                                   the percentage of that phase
    in a phase whose part of the whole a profile knows   within that part (`Sighting.span`, `.part`)
    in any other phase                                   unknown for the rest of the run; the count
                                                         is shown

Other rules: a bar that is complete at its first sighting is ignored. While a bar is unfinished,
other bars are ignored, because they are nested in it. A complete bar is not shown as 100 %, because
only the exit of the command is the end.
"""

from __future__ import annotations

import re

from attrs import define, frozen

from .sighting import Sighting

__all__ = ["Phase", "Progress"]

LARGE_DROP = 0.1
"""A larger drop begins a new phase; a smaller one is a corrected estimate."""
ALMOST_COMPLETE = 0.97
"""From this fraction on, a bar that was never nested counts as complete when another begins."""
ROUNDS = 3
"""How many other bars must end before a silent main bar is replaced by them."""
MAX_BARS = 32
_WORDS = re.compile(r"[^\W\d_]+")


@frozen(kw_only=True)
class Phase:
    """The progress of the command."""

    number: int
    """The number of the phase, from 1."""
    name: str | None
    done: float | None
    total: float | None
    complete: bool
    """Whether the phase is complete. Further sightings of its bar begin another phase."""
    overall: float | None
    """The fraction (0 to 1) of the whole run; None: unknown for the rest of the run."""


@define
class _Bar:
    words: str
    best: float
    done: float
    total: float | None
    idle: bool
    """Whether the bar was complete at its first sighting."""
    rises: int = 0


class Progress:
    """Takes sightings in order, and returns the progress of the command.

    Args:
        parts: How many consecutive bars make up the whole run, if that is known.
        whole: Whether one bar can show the progress of the whole run.
    """

    def __init__(self, *, parts: int = 1, whole: bool = True) -> None:
        self._parts, self._part = parts, 1
        self._known = whole
        self._reached = 0.0
        self._bars: dict[tuple[str, float | None], _Bar] = {}
        self._main: _Bar | None = None
        self._interrupted = False  # others were seen since the main bar was
        self._nested = False  # the main bar was seen again after others
        self._rounds = 0
        self._number = 0
        self._name: str | None = None
        self._names: set[str | None] = set()

    def observe(self, seen: Sighting) -> Phase | None:
        """The progress after this sighting; None if there is nothing new to show."""
        fraction = seen.fraction
        if fraction is None:
            return self._counted(seen)
        bar, restarted = self._bar(seen, fraction)
        if bar.idle or not (seen.sure or bar.rises):
            return None
        if bar is self._main:
            self._nested = self._nested or self._interrupted
            self._interrupted, self._rounds = False, 0
            if restarted:
                self._next(seen)
        elif self._has_ended(seen, bar, restarted):
            replaces = self._main is not None and self._main.rises == 0 and self._parts == 1
            self._main, self._nested = bar, False
            self._interrupted, self._rounds = False, 0
            if replaces and fraction >= self._reached:
                self._rename(seen)  # the one before was no progress
            else:
                self._next(seen)
        else:
            self._interrupted = True
            return None
        return self._phase(seen, fraction)

    def _bar(self, seen: Sighting, fraction: float) -> tuple[_Bar, bool]:
        """The bar of the sighting, and whether it begins again."""
        words = " ".join(_WORDS.findall(seen.label.lower()))
        key = (words, None if seen.known else seen.total)
        bar = self._bars.pop(key, None) or self._same_as_main(words, seen, fraction)
        if bar is None:
            bar = _Bar(words, fraction, seen.done or 0, seen.total, idle=fraction >= 1)
            restarted = False
        else:
            done = seen.done or 0
            restarted = (
                bar.best - fraction > LARGE_DROP
                or (bar.idle and fraction < 1)
                or (bar.total != seen.total and done < bar.done)
            )
            if restarted:
                bar.best, bar.idle = fraction, False
            elif fraction > bar.best:
                bar.best = fraction
                bar.rises += 1
            bar.done, bar.total = seen.done or 0, seen.total
        self._bars[key] = bar  # the newest is the last
        if len(self._bars) > MAX_BARS:
            del self._bars[next(iter(self._bars))]
        return bar, restarted

    def _same_as_main(self, words: str, seen: Sighting, fraction: float) -> _Bar | None:
        """The main bar, if this sighting continues it with another label or a corrected total."""
        main = self._main
        if seen.known or main is None or not 0 < main.best < 1 or fraction >= 1:
            return None
        relabelled = main.total == seen.total and 0 <= fraction - main.best <= LARGE_DROP
        if relabelled and words != main.words:
            main.words = words
            self._name = None  # a label that changes with each item is not the name of a phase
            return main
        grown = (
            main.words == words
            and None not in (main.total, seen.total)
            and (seen.total or 0) > (main.total or 0)
            and (seen.done or 0) >= main.done > 0
            and abs(fraction - main.best) <= LARGE_DROP
        )
        return main if grown else None

    def _has_ended(self, seen: Sighting, bar: _Bar, restarted: bool) -> bool:
        """Whether the sighting of another bar means that the main bar, if there is one, has
        ended."""
        main = self._main
        if main is not None and main.best >= 1 and self._nested and seen.fraction == 1:
            return False  # the last sighting of a bar that was nested in it
        if main is None or seen.known or main.best >= (1 if self._nested else ALMOST_COMPLETE):
            return True
        self._rounds += restarted or bar.best >= 1
        return self._rounds >= ROUNDS or (main.rises == 0 and main.best > 0 and bar.rises >= 2)

    def _counted(self, seen: Sighting) -> Phase | None:
        """The progress after a count without a total; None if there is nothing new to show."""
        if self._main is not None:
            return None
        self._number, self._name = 1, seen.label or None
        return Phase(
            number=1, name=self._name, done=seen.done, total=None, complete=False, overall=None
        )

    def _next(self, seen: Sighting) -> None:
        """Begins a phase."""
        if self._number and seen.span is None and seen.part is None:
            self._part += 1
            self._known = self._known and self._part <= self._parts
        self._number += 1
        self._rename(seen)
        if self._number > 1 and (self._name is None or self._name in self._names):
            self._name = f"{self._name or 'stage'} {self._number}"
        self._names.add(self._name)

    def _rename(self, seen: Sighting) -> None:
        self._name = seen.label or None

    def _phase(self, seen: Sighting, fraction: float) -> Phase:
        low, high = 0.0, 1.0
        if seen.part is not None:
            self._part, self._parts = seen.part
        if seen.span is not None:
            low, high = seen.span
        elif self._parts > 1:
            low, high = (self._part - 1) / self._parts, self._part / self._parts
        at = low + fraction * (high - low)
        if at < self._reached - LARGE_DROP:
            self._known = False
        self._reached = max(self._reached, at)
        numbered = self._name is None or seen.label == ""
        return Phase(
            number=self._number,
            name=f"{self._part} of {self._parts}" if numbered and self._parts > 1 else self._name,
            done=None if seen.total is None else seen.done,
            total=seen.total,
            complete=fraction >= 1,
            overall=self._reached if self._known else None,
        )
