"""Whether the packages of the extra `server` are installed, and what to say if they are not.

`pyproject.toml` is the list: it is read from the metadata of the installed distribution.
"""

from __future__ import annotations

import re
from importlib import metadata

__all__ = ["how_to_install", "missing_server_packages"]

DISTRIBUTION = "progress-gateway"
EXTRA = "server"

_OF_THE_EXTRA = re.compile(rf"([\w.-]+).*;\s*extra == ['\"]{EXTRA}['\"]", re.DOTALL)


def server_packages() -> list[str]:
    """The distributions that the extra adds. None are known in a checkout that is not installed."""
    try:
        required = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return []
    return [found[1] for found in map(_OF_THE_EXTRA.fullmatch, required) if found]


def missing_server_packages() -> list[str]:
    """Those of them that are not installed."""
    return [name for name in server_packages() if not _installed(name)]


def how_to_install(missing: list[str]) -> str:
    """One line that says what to do."""
    verb = "is" if len(missing) == 1 else "are"
    return f"{', '.join(missing)} {verb} not installed; pip install '{DISTRIBUTION}[{EXTRA}]'"


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
