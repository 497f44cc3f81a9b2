"""Returns the error code of a parser, for tests that generate its input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.model.errors import InvalidInput

__all__ = ["complaint"]


def complaint(parse: Callable[[Any], object], text: str | bytes) -> str | None:
    """The code of what is wrong; None if nothing is. Anything else that is raised is raised."""
    try:
        parse(text)
    except InvalidInput as error:
        return error.code
    return None
