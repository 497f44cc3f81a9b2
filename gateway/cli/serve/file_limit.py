"""The number of files and sockets that this process may have open: each connection needs one."""

from __future__ import annotations

import resource
from typing import Final

__all__ = ["max_open_files", "raise_soft_limit"]

OPEN_MAX: Final = 10_240
"""The value to request where there is no hard limit: macOS accepts no more (setrlimit(2))."""


def max_open_files() -> int:
    """Returns the hard limit. (The soft limit is for programs that use select(2).)"""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return OPEN_MAX if hard == resource.RLIM_INFINITY else hard


def raise_soft_limit() -> None:
    """Raises the soft limit to the hard limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max_open_files(), hard))
