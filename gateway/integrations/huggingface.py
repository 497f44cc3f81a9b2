"""A callback for Hugging Face's `Trainer`.

    Trainer(..., callbacks=[JobCallback("train:7")])

The count is the steps, the message has the logged metrics, and the phase is the epoch. `Trainer`
does not report an exception to a callback, so the job would become stalled when the process ends.
It is better to pass a `Job` whose block surrounds `train()`:

    with Job("train:7") as job:
        Trainer(..., callbacks=[JobCallback(job)]).train()
"""

from __future__ import annotations

from typing import Any

from transformers.trainer_callback import TrainerCallback

from ..worker import Job
from .training import Training

__all__ = ["JobCallback"]


class JobCallback(TrainerCallback):
    """Reports training to `job`, a name or a `Job`; `options` are those of `Job`."""

    def __init__(self, job: Job | str, **options: Any) -> None:
        self._training = Training(job, **options)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Sets the number of steps."""
        if state.is_world_process_zero:
            self._training.begin(state.max_steps)

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Begins a phase for the epoch."""
        self._training.set_phase(f"epoch {int(state.epoch or 0) + 1}")

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Counts the step."""
        self._training.report_step(state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Shows the new metrics."""
        self._training.report_metrics(logs)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Ends the job."""
        self._training.end()
