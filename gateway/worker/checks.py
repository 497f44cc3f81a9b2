"""What a worker may say: every argument is checked here, at once, in the caller's thread.

Pure. A wrong argument is a defect of the caller's program, so it raises TypeError or
ValueError and the text names the argument. A text that is too long is not: it is cut.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from enum import Enum
from math import inf, isfinite
from operator import index
from typing import Any, Final

from .limits import (
    MAX_DATA,
    MAX_JOB_ID,
    MAX_LEASE,
    MAX_NUMBER,
    MAX_RUN,
    MAX_TEXT,
    MAX_WAIT,
    MIN_LEASE,
)

__all__ = ["KEEP", "Keep", "count", "count_or_none", "is_traceparent", "job_id", "said", "update"]


class Keep(Enum):
    """The default of arguments: None clears a field, this leaves it as it is."""

    KEEP = "as it is"

    def __repr__(self) -> str:
        return "KEEP"


KEEP: Final = Keep.KEEP

_JOB_ID = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:/@-")


def job_id(name: str, value: object) -> str:
    """`value` if it is a job id."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a job id (str), not {type(value).__name__}")
    if not 1 <= len(value) <= MAX_JOB_ID or not _JOB_ID.issuperset(value):
        raise ValueError(
            f"{name} is not a job id (1-{MAX_JOB_ID} characters of A-Z a-z 0-9 _ . : / @ -): "
            f"{shown(value)}"
        )
    return str(value)


def run(name: str, value: object) -> str:
    """`value` if it is the id of a run."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type(value).__name__}")
    if not 1 <= len(value) <= MAX_RUN or not value.isprintable() or not value.isascii():
        raise ValueError(f"{name} must have 1-{MAX_RUN} printable characters: {shown(value)}")
    return str(value)


_TRACEPARENT = re.compile("00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def is_traceparent(text: str) -> bool:
    """Whether `text` names a span (W3C Trace Context §3.2.2, version 00)."""
    return _TRACEPARENT.fullmatch(text) is not None


def traceparent(name: str, value: object) -> str:
    """`value` if it names a span."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str or a function, not {type(value).__name__}")
    if not is_traceparent(value):
        raise ValueError(f"{name} is none of W3C Trace Context, version 00: {shown(value)}")
    return str(value)


def number(name: str, value: Any) -> int | float:
    """`value` as an int or a finite float. Takes all that acts like one (numpy, Decimal)."""
    if isinstance(value, (bool, str, bytes)):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    try:
        return int(index(value))
    except TypeError:
        pass
    try:
        result = float(value)
    except (TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        # RuntimeError: what torch raises for a tensor of several elements.
        raise TypeError(f"{name} must be a number, not {type(value).__name__}") from error
    if not isfinite(result):
        raise ValueError(f"{name} must be finite, not {result}")
    return result


def count(name: str, value: Any) -> int | float:
    """`value` as a number from 0 to 2⁵³."""
    result = number(name, value)
    if not 0 <= result <= MAX_NUMBER:
        raise ValueError(f"{name} must be between 0 and 2**53, not {shown(value)}")
    return result


def count_or_none(name: str, value: Any) -> int | float | None:
    """The same, and None for None."""
    return None if value is None else count(name, value)


def said(**arguments: object) -> dict[str, Any]:
    """Those of `unit`, `phase`, `message`, `data` that are not KEEP, checked; None clears."""
    return {
        name: value if value is None else data(name, value) if name == "data" else text(name, value)
        for name, value in arguments.items()
        if value is not KEEP
    }


def update(**fields: Any) -> dict[str, Any]:
    """The fields of an update (docs/protocol.md, Update), checked; None clears."""
    return {
        name: value if value is None else _FIELDS.get(name, text)(name, value)
        for name, value in fields.items()
    }


def percent(name: str, value: Any) -> int | float:
    """`value` as a number from 0 to 100."""
    result = number(name, value)
    if not 0 <= result <= 100:
        raise ValueError(f"{name} must be between 0 and 100, not {shown(value)}")
    return result


def share(name: str, value: Any) -> float:
    """`value` as a part of a whole: 0 to 1."""
    result = float(number(name, value))
    if not 0 <= result <= 1:
        raise ValueError(f"{name} must be between 0 and 1, not {shown(value)}")
    return result


def lease(name: str, value: Any) -> float:
    """`value` as the seconds of a lease."""
    result = number(name, value)
    if not MIN_LEASE <= result <= MAX_LEASE:
        raise ValueError(
            f"{name} must be between {MIN_LEASE:g} and {MAX_LEASE:g} seconds, not {shown(value)}"
        )
    return float(result)


def seconds(name: str, value: Any) -> float:
    """`value` as a duration that may be 0, or infinite: so long that nobody lives to see it."""
    result = MAX_WAIT if isinstance(value, float) and value == inf else number(name, value)
    if result < 0:
        raise ValueError(f"{name} must not be negative, not {shown(value)}")
    return float(min(result, MAX_WAIT))


def text(name: str, value: object) -> str:
    """`value`, cut to what the protocol allows for `name`, and fit for UTF-8."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type(value).__name__}")
    limit = MAX_TEXT[name]
    if len(value) > limit:
        value = value[: limit - 1] + "…"
    if not value.isascii():
        # File names of unknown encoding carry lone surrogates; they exist in no UTF-8.
        value = value.encode("utf-8", "replace").decode("utf-8")
    return str(value)


def data(name: str, value: object) -> Any:
    """A copy of `value` as JSON has it, so that later changes by the caller don't matter."""
    try:
        written = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        size = len(written.encode())
    except TypeError as error:
        raise TypeError(f"{name} cannot be written as JSON: {error}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} cannot be written as JSON: {error}") from error
    if size > MAX_DATA:
        raise ValueError(f"{name} has {size} bytes of JSON; {MAX_DATA} are allowed")
    return json.loads(written)


_FIELDS: dict[str, Callable[[str, Any], Any]] = {
    "percent": percent,
    "done": count,
    "total": count,
    "data": data,
    "parent": job_id,
    "lease": lease,
}
"""All others are texts."""


def shown(value: object) -> str:
    """`value` for an error text, however long it is."""
    written = repr(value)
    return written if len(written) <= 80 else written[:79] + "…"
