"""A callback for Lightning.

    Trainer(callbacks=[JobCallback("train:7")]).fit(model)

The count is the optimiser's steps, the phase is the epoch, and the message has the logged metrics.
An exception of `fit` ends the job as failed, Ctrl-C ends it as cancelled.
"""

from __future__ import annotations

from math import inf
from typing import Any

try:
    from lightning.pytorch.callbacks import Callback
except ImportError:  # the older name of the package
    from pytorch_lightning.callbacks import Callback

from ..worker import Job
from .training import Training

__all__ = ["JobCallback"]


class JobCallback(Callback):
    """Reports training to `job`, a name or a `Job`; `options` are those of `Job`."""

    def __init__(self, job: Job | str, **options: Any) -> None:
        super().__init__()
        self._training = Training(job, **options)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Sets the number of steps, unless it is infinite."""
        total = trainer.estimated_stepping_batches
        if trainer.is_global_zero:
            self._training.begin(None if total == inf else total)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Begins a phase for the epoch."""
        self._training.set_phase(f"epoch {trainer.current_epoch + 1}")

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Reports the steps so far; with gradient accumulation not every batch is a step."""
        self._training.report_step(trainer.global_step)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Shows the new metrics."""
        metrics = trainer.callback_metrics
        self._training.report_metrics(
            {k: v.item() if hasattr(v, "item") else v for k, v in metrics.items()}
        )

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Ends the job after an exception of `fit`."""
        self._training.end(exception)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Ends the job."""
        self._training.end()
