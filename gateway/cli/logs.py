"""What the log looks like to a person at a terminal, or in a journal."""

from __future__ import annotations

import logging

__all__ = ["log_to_stderr"]


OF_A_SERVER = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


def log_to_stderr(level: str, *, form: str = OF_A_SERVER) -> None:
    """Send all logs of this process to stderr, one line each (tracebacks excepted)."""
    logging.basicConfig(level=level.upper(), format=form, datefmt="%Y-%m-%d %H:%M:%S")
