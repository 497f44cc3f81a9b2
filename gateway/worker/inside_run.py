"""The job that a worker inside `gateway run` reports: the same as that of the command."""

from __future__ import annotations

import os

__all__ = ["JOB_VARIABLE", "RUN_VARIABLE", "name_and_run"]

JOB_VARIABLE, RUN_VARIABLE = "PROGRESS_GATEWAY_JOB", "PROGRESS_GATEWAY_RUN"
"""The environment variables in which `gateway run` passes its job and run to its command."""


def name_and_run(name: str | None) -> tuple[str, str | None]:
    """Returns the name of a `Job` that was created with `name`, and the run that it joins; None if
    it gets a new run.

    Without a name it reports the job of the `gateway run` around this process. With that job's
    name it joins that job's run.

    Raises:
        TypeError: There is no name.
    """
    command_job = os.environ.get(JOB_VARIABLE)
    name = name if name is not None else command_job or None
    if name is None:
        raise TypeError("name is missing; it may be omitted only inside `gateway run`")
    return name, os.environ.get(RUN_VARIABLE) if name == command_job else None
