"""Checks whether the packages of the extra `server` are installed; the text if they are not.

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
    """Returns the distributions that the extra adds. None are known in a checkout that is not
    installed."""
    try:
        required = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return []
    return [match[1] for match in map(_OF_THE_EXTRA.fullmatch, required) if match]


def missing_server_packages() -> list[str]:
    """Returns the packages of the extra that are not installed."""
    return [name for name in server_packages() if not _installed(name)]


def how_to_install(missing: list[str]) -> str:
    """Returns one line that says how to install the `missing` packages."""
    verb = "is" if len(missing) == 1 else "are"
    return f"{', '.join(missing)} {verb} not installed; pip install '{DISTRIBUTION}[{EXTRA}]'"


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
