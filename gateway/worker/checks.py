"""Checks of the arguments of the worker's functions, in the caller's thread. Pure.

Each check returns the value that is used. An invalid argument is a defect of the caller's program,
so it raises TypeError or ValueError, and the text names the argument. A text that is too long is
cut.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from enum import Enum
from math import inf, isfinite
from operator import index
from typing import Any, Final

from ..model.constants import (
    MAX_ACCEPTS,
    MAX_DATA_BYTES,
    MAX_EXPECTED,
    MAX_LEASE,
    MAX_NUMBER,
    MAX_PART,
    MAX_RUN,
    MAX_TEXT,
    MAX_WEIGHT,
    MIN_LEASE,
    MIN_WEIGHT,
)
from ..model.ids import JOB_ID_RULE, VERB, is_job_id, is_part
from ..model.traceparent import is_traceparent
from .limits import MAX_WAIT

__all__ = ["KEEP", "Keep", "count", "count_or_none", "job_id", "part", "texts_and_data", "update"]


class Keep(Enum):
    """The default of arguments that may be None: None clears a field, KEEP does not change it."""

    KEEP = "unchanged"

    def __repr__(self) -> str:
        return "KEEP"


KEEP: Final = Keep.KEEP


def job_id(name: str, value: object) -> str:
    """Returns `value` if it is a job id."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a job id (str), not {type(value).__name__}")
    if not is_job_id(value):
        raise ValueError(f"{name} is not a job id ({JOB_ID_RULE}): {short_repr(value)}")
    return str(value)


def run(name: str, value: object) -> str:
    """Returns `value` if it is the id of a run."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type(value).__name__}")
    if not 1 <= len(value) <= MAX_RUN or not value.isprintable() or not value.isascii():
        raise ValueError(f"{name} must have 1-{MAX_RUN} printable characters: {short_repr(value)}")
    return str(value)


def part(name: str, value: object) -> str:
    """Returns `value` if it is the name of a part."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type(value).__name__}")
    if not is_part(value):
        raise ValueError(
            f"{name} is not the name of a part (1-{MAX_PART} characters of A-Z a-z 0-9 _ . : / @ "
            f"-): {short_repr(value)}"
        )
    return str(value)


def traceparent(name: str, value: object) -> str:
    """Returns `value` if it is a valid `traceparent`; otherwise raises."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str or a function, not {type(value).__name__}")
    if not is_traceparent(value):
        raise ValueError(
            f"{name} is not in the format of W3C Trace Context, version 00: {short_repr(value)}"
        )
    return str(value)


def number(name: str, value: Any) -> int | float:
    """Returns `value` as an int or a finite float. Accepts number-like types (numpy, Decimal)."""
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
    """Returns `value` as a number from 0 to 2⁵³."""
    result = number(name, value)
    if not 0 <= result <= MAX_NUMBER:
        raise ValueError(f"{name} must be between 0 and {MAX_NUMBER}, not {short_repr(value)}")
    return result


def count_or_none(name: str, value: Any) -> int | float | None:
    """Returns `value` as a number from 0 to 2⁵³, or None."""
    return None if value is None else count(name, value)


def texts_and_data(**arguments: object) -> dict[str, Any]:
    """Checks `unit`, `phase`, `message` and `data`. Returns those that are not KEEP; with
    None the field is cleared."""
    return {
        name: value if value is None else data(name, value) if name == "data" else text(name, value)
        for name, value in arguments.items()
        if value is not KEEP
    }


def accepts(name: str, value: object) -> tuple[str, ...]:
    """Returns `value` as the verbs that a job accepts."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f"{name} must contain verbs such as 'cancel', not be {short_repr(value)}")
    verbs = tuple(sorted(value) if isinstance(value, AbstractSet) else dict.fromkeys(value))
    for verb in verbs:
        if not isinstance(verb, str) or not re.fullmatch(VERB, verb):
            raise ValueError(
                f"{name} must contain verbs such as 'cancel' (a-z 0-9 _ -), not {short_repr(verb)}"
            )
    if len(verbs) > MAX_ACCEPTS:
        raise ValueError(f"{name} has {len(verbs)} verbs; {MAX_ACCEPTS} are allowed")
    return verbs


def update(**fields: Any) -> dict[str, Any]:
    """Returns the fields of an update (docs/protocol.md, Update), checked; None clears."""
    return {
        name: value if value is None else _FIELD_CHECKS.get(name, text)(name, value)
        for name, value in fields.items()
    }


def percent(name: str, value: Any) -> int | float:
    """Returns `value` as a number from 0 to 100."""
    result = number(name, value)
    if not 0 <= result <= 100:
        raise ValueError(f"{name} must be between 0 and 100, not {short_repr(value)}")
    return result


def share(name: str, value: Any) -> float:
    """Returns `value` as a number from 0 to 1."""
    result = float(number(name, value))
    if not 0 <= result <= 1:
        raise ValueError(f"{name} must be between 0 and 1, not {short_repr(value)}")
    return result


def lease(name: str, value: Any) -> float:
    """Returns `value` as the seconds of a lease."""
    result = number(name, value)
    if not MIN_LEASE <= result <= MAX_LEASE:
        raise ValueError(
            f"{name} must be between {MIN_LEASE:g} and {MAX_LEASE:g} seconds, "
            f"not {short_repr(value)}"
        )
    return float(result)


def expected(name: str, value: Any) -> int | float:
    """Returns `value` as the weight of all children of a group."""
    result = number(name, value)
    if not 0 <= result <= MAX_EXPECTED:
        raise ValueError(f"{name} must be between 0 and {MAX_EXPECTED}, not {short_repr(value)}")
    return result


def children(name: str, value: Any) -> int | float | Keep | None:
    """Returns `value` as the weight of all children; None if it is unknown, KEEP for a job that is
    not a group."""
    return value if value is None or value is KEEP else expected(name, value)


def weight(name: str, value: Any) -> int | float:
    """Returns `value` as the weight of a child in its group."""
    result = number(name, value)
    if not MIN_WEIGHT <= result <= MAX_WEIGHT:
        raise ValueError(
            f"{name} must be between {MIN_WEIGHT} and {MAX_WEIGHT}, not {short_repr(value)}"
        )
    return result


def seconds(name: str, value: Any) -> float:
    """Returns `value` as a duration in seconds, which may be 0 or infinite."""
    result = MAX_WAIT if isinstance(value, float) and value == inf else number(name, value)
    if result < 0:
        raise ValueError(f"{name} must be at least 0, not {short_repr(value)}")
    return float(min(result, MAX_WAIT))


def text(name: str, value: object) -> str:
    """Returns `value`, cut to the maximum length of `name`, and without characters that UTF-8
    cannot encode."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type(value).__name__}")
    limit = MAX_TEXT[name]
    if type(value) is str and len(value) <= limit and value.isascii():
        return value
    if len(value) > limit:
        value = value[: limit - 1] + "…"
    if not value.isascii():
        # File names of unknown encoding contain lone surrogates, which UTF-8 cannot encode.
        value = value.encode("utf-8", "replace").decode("utf-8")
    return str(value)


def data(name: str, value: object) -> Any:
    """Returns a JSON copy of `value`, so that later changes by the caller have no effect."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        size = len(text.encode())
    except TypeError as error:
        raise TypeError(f"{name} cannot be written as JSON: {error}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} cannot be written as JSON: {error}") from error
    if size > MAX_DATA_BYTES:
        raise ValueError(f"{name} has {size} bytes of JSON; {MAX_DATA_BYTES} are allowed")
    return json.loads(text)


_FIELD_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "percent": percent,
    "done": count,
    "total": count,
    "data": data,
    "children": expected,
    "weight": weight,
    "lease": lease,
    "part": part,
}
"""The checks of the fields that are not texts."""


def check_changes(arguments: Any) -> None:
    """Checks the arguments of `Job.update` except `done`, and puts the checked values in their
    place. KEEP and None stay."""
    for name, value in arguments.items():
        limit = _SHORT_TEXT_LIMITS.get(name)
        if limit is not None and type(value) is str and len(value) <= limit and value.isascii():
            continue  # the usual case: saves a call
        check = _CHANGE_CHECKS.get(name)
        if check is None:
            raise TypeError(f"update() got an unexpected keyword argument {name!r}")
        if value is not KEEP and (value is not None or name == "percent"):
            arguments[name] = check(name, value)


_SHORT_TEXT_LIMITS = {name: MAX_TEXT[name] for name in ("unit", "phase", "message")}
_CHANGE_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "total": count,
    "percent": number,
    "overall": number,
    "unit": text,
    "phase": text,
    "message": text,
    "data": data,
}


def short_repr(value: object) -> str:
    """Returns `value` for an error text, shortened if necessary."""
    text = repr(value)
    return text if len(text) <= 80 else text[:79] + "…"
