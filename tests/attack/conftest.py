"""Shared fixtures of the attack tests. All attacks are limited in number and time, and use only the
loopback interface."""

from __future__ import annotations

from tests.e2e.conftest import _no_errors_logged, limits, port

__all__ = ["_no_errors_logged", "limits", "port"]
