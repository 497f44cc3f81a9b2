"""Finds the progress in a line of a known program, with its profile. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from attrs import Factory, field, frozen

from .line_progress import LineProgress, quantity

__all__ = ["Matcher", "Profile"]

MAX_ITEMS = 4_096
"""The maximum number of different items that are counted for the groups `one` and `of`."""


def _compiled(patterns: Sequence[str]) -> tuple[re.Pattern[str], ...]:
    return tuple(map(re.compile, patterns))


@frozen(kw_only=True)
class Profile:
    """The patterns that read the output of one program. The first one that matches a line is used.

    Their named groups are:

        percent, fraction        the progress
        done, total, left        a count; numbers may have units, or be times (`00:01:02.5`)
        phase                    the name of the current phase
        item, items              item n of `items` equal items, each with its own percentage
        one, of                  the name of a finished item, and of any item: different names are
                                 counted
        unsure, sure             progress is hidden from an `unsure` line until a `sure` line

    Values that a line does not contain are taken from earlier lines, except `_PER_LINE_VALUES`.
    """

    name: str
    commands: tuple[str, ...] = ()
    """The names of the program's executables. If empty, the profile needs `--profile`."""
    when: str = ""
    """A pattern for the command's arguments. If it does not match, the program's next profile is
    tried."""
    lines: tuple[re.Pattern[str], ...] = field(converter=_compiled, default=())
    arguments: tuple[re.Pattern[str], ...] = field(converter=_compiled, default=())
    """Patterns for the command's arguments that set values before the first line. `skip` is
    subtracted from the total."""
    no_total: str = ""
    """A pattern for arguments that change the amount of work, so that the total is not used."""
    phases: dict[str, tuple[float, float]] = Factory(dict)
    """The range of the whole (0 to 1) that each phase covers. Other phases are then not shown."""
    each: str = ""
    """A pattern for arguments each of which has its own bar, one after the other."""
    whole: bool = True
    """Whether one bar can show the progress of the whole run."""
    generic: bool = False
    """Whether lines that match no pattern are read like those of an unknown program."""
    only_stderr: bool = False
    """Whether the progress is on stderr. Then stdout is not read, because it may be data."""
    unit: str | None = None


class Matcher:
    """Finds progress in the lines of one run, with a profile."""

    def __init__(self, profile: Profile, arguments: str = "") -> None:
        self._profile = profile
        self._values: dict[str, str] = {}
        self._items: dict[str, set[str]] = {"one": set(), "of": set()}
        self._is_hidden = False
        self._total_is_ambiguous = bool(profile.no_total and re.search(profile.no_total, arguments))
        self._total_is_fixed = False
        for pattern in profile.arguments:
            match = pattern.search(arguments)
            if match:
                self._values |= _matched_groups(match)
        self._total_is_fixed = "total" in self._values

    def parse_line(self, text: str) -> LineProgress | None:
        """Returns the progress in a line; None if no pattern matches, or progress is hidden."""
        for pattern in self._profile.lines:
            match = pattern.search(text)
            if match:
                return self._parse(_matched_groups(match))
        return None

    def _parse(self, groups: dict[str, str]) -> LineProgress | None:
        if "sure" in groups or "unsure" in groups:
            self._is_hidden = "unsure" in groups
        if self._is_hidden:
            return None
        momentary = {name: groups.pop(name) for name in _PER_LINE_VALUES if name in groups}
        for name in ("one", "of"):
            if name in groups and len(self._items[name]) < MAX_ITEMS:
                self._items[name].add(groups[name])
        self._keep_values(groups, without_progress=not momentary)
        if self._items["of"]:
            count = len(self._items["one"] & self._items["of"])
            return LineProgress(done=count, total=len(self._items["of"]), from_profile=True)
        return self._line_progress(momentary) if momentary else None

    def _keep_values(self, groups: dict[str, str], *, without_progress: bool) -> None:
        previous_total, total = self._values.get("total"), groups.get("total")
        if total is not None and without_progress:
            # The line has a total without progress, such as the length of an input. If such totals
            # differ, none of them is that of the whole run.
            if self._total_is_fixed:
                del groups["total"]
            elif previous_total is not None and not _is_close(previous_total, total):
                self._total_is_ambiguous = True
        self._values |= groups

    def _line_progress(self, momentary: dict[str, str]) -> LineProgress | None:
        values = self._values | momentary
        numbers = {name: quantity(values[name]) for name in _NUMBERS if name in values}
        label = values.get("phase", "").strip()
        span = self._profile.phases.get(label)
        if self._profile.phases and span is None:
            return None
        percent = numbers.get("percent")
        if numbers.get("fraction") is not None:
            percent = 100 * (numbers["fraction"] or 0)
        done, total = numbers.get("done"), numbers.get("total")
        if "left" in momentary and total is not None:
            done = total - (numbers.get("left") or 0)
        if total is not None:
            total -= numbers.get("skip") or 0
            if self._total_is_ambiguous or not total or done is None or not 0 <= done <= total:
                total = None
        item, items = numbers.get("item"), numbers.get("items")
        if percent is not None and (not 0 <= percent <= 100 or total is None):
            done = total = None
        if (percent is not None and not 0 <= percent <= 100) or (percent is None and done is None):
            return None
        return LineProgress(
            label=label,
            done=done,
            total=total,
            percent=percent,
            from_profile=True,
            span=span,
            item=(int(item), int(items)) if item and items and item <= items else None,
        )


_PER_LINE_VALUES = ("done", "left", "percent", "fraction")
_NUMBERS = (*_PER_LINE_VALUES, "total", "item", "items", "skip")


def _matched_groups(match: re.Match[str]) -> dict[str, str]:
    return {name: text for name, text in match.groupdict().items() if text is not None}


def _is_close(one: str, other: str) -> bool:
    a, b = quantity(one), quantity(other)
    return a is not None and b is not None and abs(a - b) <= 0.02 * max(a, b)
