"""How many files and sockets this process may have open: each connection is one."""

from __future__ import annotations

import resource
from typing import Final

__all__ = ["allowed", "raise_to_allowed"]

OPEN_MAX: Final = 10_240
"""What may be asked for where nothing else bounds it: macOS takes no more (setrlimit(2))."""


def allowed() -> int:
    """The hard limit. The soft one is for programs that use select(2)."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return OPEN_MAX if hard == resource.RLIM_INFINITY else hard


def raise_to_allowed() -> None:
    """Make the soft limit the hard one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed(), hard))
