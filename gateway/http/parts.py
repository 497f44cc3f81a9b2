"""The parts of the HTTP application that can be served at a separate, internal address."""

from __future__ import annotations

from typing import Final

__all__ = ["PARTS"]

PARTS: Final = frozenset(("publish", "metrics", "page"))
