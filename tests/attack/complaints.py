"""Returns the error code of a parser, for tests that generate its input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.model.errors import InvalidInput

__all__ = ["complaint"]


def complaint(parse: Callable[[Any], object], text: str | bytes) -> str | None:
    """Returns the code of the error; None if there is none. Raises any other exception."""
    try:
        parse(text)
    except InvalidInput as error:
        return error.code
    return None
