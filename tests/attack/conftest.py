"""What the attack set shares. Everything is bounded in count and time, and goes to the
loopback alone."""

from __future__ import annotations

from tests.e2e.conftest import _no_errors_logged, limits, port

__all__ = ["_no_errors_logged", "limits", "port"]
