"""The progress that one line of output contains. Also parses numbers. Pure."""

from __future__ import annotations

import re
from math import isfinite

from attrs import frozen

from ...model.constants import MAX_NUMBER

__all__ = ["LineProgress", "quantity"]

_POWER_OF_PREFIX = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5, "e": 6}
_QUANTITY = re.compile(r"(?P<number>[\d.,]+) ?(?P<prefix>[kmgtpe]?)(?P<binary>i?)(?:b\w*)?", re.I)
_CLOCK = re.compile(r"(?:(\d+):)?(\d+):(\d+(?:\.\d+)?)")
_THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")


@frozen(kw_only=True)
class LineProgress:
    """The progress in one line. It has either `percent`, or `done` and `total`, or only `done`."""

    label: str = ""
    """The text before the number, usable as the name of a phase."""
    done: float | None = None
    total: float | None = None
    percent: float | None = None
    """0 to 100, as in the line."""
    is_sure: bool = True
    """Whether the progress is shown at once. Otherwise it must rise first."""
    from_profile: bool = False
    """Whether a profile has matched the line. Then a different total is a correction, and a
    different label is another phase."""
    span: tuple[float, float] | None = None
    """The range of the whole (low, high: 0 to 1) that this phase covers, if it is known."""
    item: tuple[int, int] | None = None
    """(n, items): the line has the progress of item n (from 1) of equal items."""

    @property
    def fraction(self) -> float | None:
        """The progress from 0 to 1; None if only a count without a total is known."""
        if self.percent is not None:
            return self.percent / 100
        return None if not self.total or self.done is None else self.done / self.total


def quantity(text: str) -> float | None:
    """Returns the number in `text`: `1,200`, `12,5`, `57.2 MiB`, `3072k`, `00:01:02.5` (seconds).

    None if there is none. Prefixes are powers of 1,000, with an `i` of 1,024.
    """
    clock = _CLOCK.fullmatch(text)
    if clock:
        hours, minutes, seconds = clock.groups()
        return int(hours or 0) * 3600 + int(minutes) * 60 + float(seconds)
    match = _QUANTITY.fullmatch(text.strip())
    if match is None:
        return None
    number = match["number"]
    plain = number.replace(",", "" if _THOUSANDS.fullmatch(number) else ".")
    try:
        value: float = int(plain) if len(plain) < 17 and plain.isdigit() else float(plain)
    except ValueError:
        return None
    value *= (1024 if match["binary"] else 1000) ** _POWER_OF_PREFIX[match["prefix"].lower()]
    if not isfinite(value) or value > MAX_NUMBER:
        return None
    return round(value) if match["prefix"] else value
