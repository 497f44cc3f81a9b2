"""A worker inside `gateway run` reports the same job as the command."""

from __future__ import annotations

import os

__all__ = ["JOB", "RUN", "within_command"]

JOB, RUN = "PROGRESS_GATEWAY_JOB", "PROGRESS_GATEWAY_RUN"
"""The environment variables in which `gateway run` passes its job and run to its command."""


def within_command(name: str | None) -> tuple[str, str | None]:
    """The name of a `Job` that was created with `name`, and the run that it joins if it gets none.

    Without a name it reports the job of the `gateway run` around this process. With that job's
    name it joins that job's run.

    Raises:
        TypeError: There is no name.
    """
    command_job = os.environ.get(JOB)
    name = name if name is not None else command_job or None
    if name is None:
        raise TypeError("name is missing; it may be omitted only inside `gateway run`")
    return name, os.environ.get(RUN) if name == command_job else None
