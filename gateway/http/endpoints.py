"""The endpoints that can be served at a separate, internal address."""

from __future__ import annotations

from typing import Final

__all__ = ["ENDPOINTS"]

ENDPOINTS: Final = frozenset(("publish", "metrics", "page"))
