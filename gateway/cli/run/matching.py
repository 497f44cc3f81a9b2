"""The lines of a known program, by its profile. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from attrs import Factory, field, frozen

from .sighting import Sighting, quantity

__all__ = ["Matcher", "Profile"]

MAX_ITEMS = 4_096
"""Maximum number of different items that are counted for the groups `one` and `of`."""


def _compiled(patterns: Sequence[str]) -> tuple[re.Pattern[str], ...]:
    return tuple(map(re.compile, patterns))


@frozen(kw_only=True)
class Profile:
    """The patterns that read the output of one program. The first one that matches a line is used.

    Their named groups are:

        percent, fraction        the progress
        done, total, left        a count; numbers may have units, or be times (`00:01:02.5`)
        phase                    the name of the current phase
        part, parts              item n of `parts` equal items, each with its own percentage
        one, of                  the name of a finished item, and of any item: different names are
                                 counted
        unsure, sure             progress is hidden from an `unsure` line on, until a `sure` line

    Values that a line does not contain are those of earlier lines, except `done` and `percent`.
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
    """The part of the whole (0 to 1) that each phase covers. Other phases are then not shown."""
    each: str = ""
    """A pattern for arguments that each have a bar of their own, one after the other."""
    whole: bool = True
    """Whether one bar can show the progress of the whole run."""
    generic: bool = False
    """Whether lines that match no pattern are read like those of an unknown program."""
    only_stderr: bool = False
    """Whether its progress is on stderr, while stdout may carry data: that is then not read."""
    unit: str | None = None


class Matcher:
    """Reads one run by a profile."""

    def __init__(self, profile: Profile, arguments: str = "") -> None:
        self._profile = profile
        self._kept: dict[str, str] = {}
        self._items: dict[str, set[str]] = {"one": set(), "of": set()}
        self._unsure = False
        self._ambiguous = bool(profile.no_total and re.search(profile.no_total, arguments))
        self._fixed = False
        for pattern in profile.arguments:
            match = pattern.search(arguments)
            if match:
                self._kept |= _found(match)
        self._fixed = "total" in self._kept

    def see(self, text: str) -> Sighting | None:
        """The sighting in a line; None if no pattern matches, or progress is hidden."""
        for pattern in self._profile.lines:
            match = pattern.search(text)
            if match:
                return self._read(_found(match))
        return None

    def _read(self, found: dict[str, str]) -> Sighting | None:
        if "sure" in found or "unsure" in found:
            self._unsure = "unsure" in found
        if self._unsure:
            return None
        now = {name: found.pop(name) for name in _MOMENTARY if name in found}
        for name in ("one", "of"):
            if name in found and len(self._items[name]) < MAX_ITEMS:
                self._items[name].add(found[name])
        self._keep(found, alone=not now)
        if self._items["of"]:
            count = len(self._items["one"] & self._items["of"])
            return Sighting(done=count, total=len(self._items["of"]), known=True)
        return self._sighting(now) if now else None

    def _keep(self, found: dict[str, str], *, alone: bool) -> None:
        before, total = self._kept.get("total"), found.get("total")
        if total is not None and alone:
            # A line announces a total, such as an input's. If totals differ, none is the whole.
            if self._fixed:
                del found["total"]
            elif before is not None and not _close(before, total):
                self._ambiguous = True
        self._kept |= found

    def _sighting(self, now: dict[str, str]) -> Sighting | None:
        values = self._kept | now
        numbers = {name: quantity(values[name]) for name in _NUMBERS if name in values}
        label = values.get("phase", "").strip()
        span = self._profile.phases.get(label)
        if self._profile.phases and span is None:
            return None
        percent = numbers.get("percent")
        if numbers.get("fraction") is not None:
            percent = 100 * (numbers["fraction"] or 0)
        done, total = numbers.get("done"), numbers.get("total")
        if "left" in now and total is not None:
            done = total - (numbers.get("left") or 0)
        if total is not None:
            total -= numbers.get("skip") or 0
            if self._ambiguous or not total or done is None or not 0 <= done <= total:
                total = None
        part, parts = numbers.get("part"), numbers.get("parts")
        if percent is not None and (not 0 <= percent <= 100 or total is None):
            done = total = None
        if (percent is not None and not 0 <= percent <= 100) or (percent is None and done is None):
            return None
        return Sighting(
            label=label,
            done=done,
            total=total,
            percent=percent,
            known=True,
            span=span,
            part=(int(part), int(parts)) if part and parts and part <= parts else None,
        )


_MOMENTARY = ("done", "left", "percent", "fraction")
_NUMBERS = (*_MOMENTARY, "total", "part", "parts", "skip")


def _found(match: re.Match[str]) -> dict[str, str]:
    return {name: text for name, text in match.groupdict().items() if text is not None}


def _close(one: str, other: str) -> bool:
    a, b = quantity(one), quantity(other)
    return a is not None and b is not None and abs(a - b) <= 0.02 * max(a, b)
