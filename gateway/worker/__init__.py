"""The API for workers that report progress. It imports no module that only servers
need: only `model` and, to report to a Redis, `keys`, `url`, `servers` and `scripts` of
`brokers/redis`. It works in synchronous code, threads, asyncio, Trio and forked children.
"""

from __future__ import annotations

from .announcing import announce
from .job import Job
from .phases import Phase
from .requests import Cancelled, JobRequest

__all__ = ["Cancelled", "Job", "JobRequest", "Phase", "announce"]
