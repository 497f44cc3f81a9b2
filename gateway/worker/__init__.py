"""What a worker uses to report its progress; loads nothing of the server.

Runs on the standard library alone, in any process: sync code, threads, asyncio, Trio,
forked children.
"""

from __future__ import annotations

from .announcing import announce
from .job import Job
from .phases import Phase

__all__ = ["Job", "Phase", "announce"]
