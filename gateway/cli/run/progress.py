"""Converts the progress of the lines of a run to the progress of its job. Pure.

Programs draw several bars: one after the other (`git clone`), inside each other (nested tqdm), or
at the same time (downloads). A label and a total identify a bar. A new *phase* begins

    if a bar drops by more than `LARGE_DROP` or restarts
    if another bar begins after the current one is complete
    if other bars end while the current one does not move: it was not a bar of the whole run

The percentage of the job is

    in the first phase                                   the percentage of that phase
    in a phase whose range of the whole is known         within that range (`LineProgress.span`,
                                                         `.item`, from a profile)
    in any other phase                                   unknown for the rest of the run; the count
                                                         is shown

Other rules: a bar that is complete in its first line is ignored. While a bar is unfinished,
other bars are ignored, because they are nested in it. A complete bar is not shown as 100 %, because
only the exit of the command ends the job.
"""

from __future__ import annotations

import re

from attrs import define, frozen

from .line_progress import LineProgress

__all__ = ["Phase", "Progress"]

LARGE_DROP = 0.1
"""A larger drop begins a new phase; a smaller one is a corrected estimate."""
ALMOST_COMPLETE = 0.97
"""From this fraction on, a bar that was never nested counts as complete when another begins."""
MAX_ENDED_BARS = 3
"""After so many ended other bars, a main bar without new lines is replaced."""
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
    """Whether the phase is complete. Further lines of its bar begin another phase."""
    overall: float | None
    """The fraction (0 to 1) of the whole run; None: unknown for the rest of the run."""


@define
class _Bar:
    words: str
    highest: float
    done: float
    total: float | None
    complete_at_first: bool
    """Whether the bar was complete in its first line."""
    rises: int = 0


class Progress:
    """Receives the progress of lines in order, and returns the progress of the command.

    Args:
        items: How many consecutive bars make up the whole run, if that is known.
        whole: Whether one bar can show the progress of the whole run.
    """

    def __init__(self, *, items: int = 1, whole: bool = True) -> None:
        self._items, self._item = items, 1
        self._whole_is_known = whole
        self._highest = 0.0
        self._bars: dict[tuple[str, float | None], _Bar] = {}
        self._main_bar: _Bar | None = None
        # Whether other bars had lines since the last one of the main bar.
        self._other_bars_since_main = False
        self._nested = False  # the main bar had a line after those of other bars
        self._ended_bars = 0
        self._phase_number = 0
        self._phase_name: str | None = None
        self._phase_names: set[str | None] = set()

    def add(self, line: LineProgress) -> Phase | None:
        """Returns the progress after this line; None if there is nothing new to show."""
        fraction = line.fraction
        if fraction is None:
            return self._add_count(line)
        bar, restarted = self._find_bar(line, fraction)
        if bar.complete_at_first or not (line.is_sure or bar.rises):
            return None
        if bar is self._main_bar:
            self._nested = self._nested or self._other_bars_since_main
            self._other_bars_since_main, self._ended_bars = False, 0
            if restarted:
                self._begin_phase(line)
        elif self._main_bar_has_ended(line, bar, restarted):
            replaces = self._main_bar is not None and self._main_bar.rises == 0 and self._items == 1
            self._main_bar, self._nested = bar, False
            self._other_bars_since_main, self._ended_bars = False, 0
            if replaces and fraction >= self._highest:
                self._rename(line)  # the previous main bar never rose
            else:
                self._begin_phase(line)
        else:
            self._other_bars_since_main = True
            return None
        return self._phase(line, fraction)

    def _find_bar(self, line: LineProgress, fraction: float) -> tuple[_Bar, bool]:
        """Returns the bar of the line, and whether it begins again."""
        words = " ".join(_WORDS.findall(line.label.lower()))
        key = (words, None if line.from_profile else line.total)
        bar = self._bars.pop(key, None) or self._same_as_main(words, line, fraction)
        if bar is None:
            bar = _Bar(words, fraction, line.done or 0, line.total, complete_at_first=fraction >= 1)
            restarted = False
        else:
            done = line.done or 0
            restarted = (
                bar.highest - fraction > LARGE_DROP
                or (bar.complete_at_first and fraction < 1)
                or (bar.total != line.total and done < bar.done)
            )
            if restarted:
                bar.highest, bar.complete_at_first = fraction, False
            elif fraction > bar.highest:
                bar.highest = fraction
                bar.rises += 1
            bar.done, bar.total = line.done or 0, line.total
        self._bars[key] = bar  # the newest is the last
        if len(self._bars) > MAX_BARS:
            del self._bars[next(iter(self._bars))]
        return bar, restarted

    def _same_as_main(self, words: str, line: LineProgress, fraction: float) -> _Bar | None:
        """Returns the main bar if this line continues it with another label or a corrected
        total."""
        main = self._main_bar
        if line.from_profile or main is None or not 0 < main.highest < 1 or fraction >= 1:
            return None
        relabelled = main.total == line.total and 0 <= fraction - main.highest <= LARGE_DROP
        if relabelled and words != main.words:
            main.words = words
            self._phase_name = (
                None  # a label that changes with each item is not the name of a phase
            )
            return main
        grown = (
            main.words == words
            and None not in (main.total, line.total)
            and (line.total or 0) > (main.total or 0)
            and (line.done or 0) >= main.done > 0
            and abs(fraction - main.highest) <= LARGE_DROP
        )
        return main if grown else None

    def _main_bar_has_ended(self, line: LineProgress, bar: _Bar, restarted: bool) -> bool:
        """Returns whether this line of another bar shows that the main bar, if there is one, has
        ended."""
        main = self._main_bar
        if main is not None and main.highest >= 1 and self._nested and line.fraction == 1:
            return False  # the last line of a bar that was nested in it
        if (
            main is None
            or line.from_profile
            or main.highest >= (1 if self._nested else ALMOST_COMPLETE)
        ):
            return True
        self._ended_bars += restarted or bar.highest >= 1
        return self._ended_bars >= MAX_ENDED_BARS or (
            main.rises == 0 and main.highest > 0 and bar.rises >= 2
        )

    def _add_count(self, line: LineProgress) -> Phase | None:
        """Returns the progress after a count without a total; None if there is nothing new to
        show."""
        if self._main_bar is not None:
            return None
        self._phase_number, self._phase_name = 1, line.label or None
        return Phase(
            number=1,
            name=self._phase_name,
            done=line.done,
            total=None,
            complete=False,
            overall=None,
        )

    def _begin_phase(self, line: LineProgress) -> None:
        """Begins a phase."""
        if self._phase_number and line.span is None and line.item is None:
            self._item += 1
            self._whole_is_known = self._whole_is_known and self._item <= self._items
        self._phase_number += 1
        self._rename(line)
        if self._phase_number > 1 and (
            self._phase_name is None or self._phase_name in self._phase_names
        ):
            self._phase_name = f"{self._phase_name or 'stage'} {self._phase_number}"
        self._phase_names.add(self._phase_name)

    def _rename(self, line: LineProgress) -> None:
        self._phase_name = line.label or None

    def _phase(self, line: LineProgress, fraction: float) -> Phase:
        low, high = 0.0, 1.0
        if line.item is not None:
            self._item, self._items = line.item
        if line.span is not None:
            low, high = line.span
        elif self._items > 1:
            low, high = (self._item - 1) / self._items, self._item / self._items
        position = low + fraction * (high - low)
        if position < self._highest - LARGE_DROP:
            self._whole_is_known = False
        self._highest = max(self._highest, position)
        numbered = self._phase_name is None or line.label == ""
        return Phase(
            number=self._phase_number,
            name=f"{self._item} of {self._items}"
            if numbered and self._items > 1
            else self._phase_name,
            done=None if line.total is None else line.done,
            total=line.total,
            complete=fraction >= 1,
            overall=self._highest if self._whole_is_known else None,
        )
