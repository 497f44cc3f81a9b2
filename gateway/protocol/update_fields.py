"""Makes an update from keyword arguments of Python, by the rules of a request body."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import isfinite
from operator import index
from typing import Any, TypedDict

from ..model.errors import InvalidInput
from ..model.state import Status, Update
from .commands import parse_update

__all__ = ["UpdateFields", "update_from"]


class UpdateFields(TypedDict, total=False):
    """The fields of an update (docs/protocol.md). A field that is left out keeps its value; None
    clears it."""

    status: Status
    attempt: int
    start: bool
    run: str | None
    age: float
    part: str | None
    percent: float | None
    done: float | None
    total: float | None
    unit: str | None
    phase: str | None
    message: str | None
    error: str | None
    data: object
    children: float | None
    weight: float | None
    lease: float | None
    accepts: Sequence[str] | None
    ack: str | None
    refused: str | None
    traceparent: str | None


def update_from(fields: Mapping[str, Any]) -> Update:
    """Returns an update with these fields.

    Numbers may have any type that behaves like one (numpy, Decimal), as in a `Job`.

    Raises:
        InvalidInput: A field is wrong; the error names it. Numbers that are infinite or `nan` are
            wrong, also within `data`, because JSON has neither.
    """
    texts = [f"{json.dumps(name)}:{_as_json(name, value)}" for name, value in fields.items()]
    try:
        body = f"{{{','.join(texts)}}}".encode()
    except UnicodeError as error:  # a lone surrogate, which has no UTF-8 form
        raise InvalidInput(str(error), code="invalid_update") from None
    return parse_update(body)


def _as_json(name: str, value: Any) -> str:
    if name != "data":
        value = _plain(name, value)
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(
            f"{name} cannot be written as JSON: {error}", code="invalid_update", field=name
        ) from None


def _plain(name: str, value: Any) -> Any:
    """Returns a number as an `int` or a finite `float`; any other value unchanged."""
    if value is None or isinstance(value, bool | str | bytes):
        return value
    try:
        return int(index(value))
    except TypeError:
        pass
    try:
        number = float(value)
    except (TypeError, ValueError, ArithmeticError, RuntimeError):
        return value  # torch raises RuntimeError for a tensor of several elements
    if not isfinite(number):
        raise InvalidInput(
            f"{name} must be finite, not {number}", code="invalid_update", field=name
        )
    return number
