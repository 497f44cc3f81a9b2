"""A callback for Keras.

    model.fit(x, y, epochs=10, callbacks=[JobCallback("train:7")])

The count is the batches of all epochs, the phase is the epoch, and the message has its metrics.
Keras does not report an exception to a callback, so pass a `Job` whose block surrounds `fit`.
"""

from __future__ import annotations

from typing import Any

from keras.callbacks import Callback

from ..worker import Job
from .training import Training

__all__ = ["JobCallback"]


class JobCallback(Callback):
    """Reports training to `job`, a name or a `Job`; `options` are those of `Job`."""

    def __init__(self, job: Job | str, **options: Any) -> None:
        super().__init__()
        self._training = Training(job, **options)
        self._done = 0

    def on_train_begin(self, logs: Any = None) -> None:
        """Sets the total from `params`: the epochs, and the steps of each if they are known."""
        self._done = 0
        steps, epochs = self.params.get("steps"), self.params.get("epochs")
        self._training.begin(steps * epochs if steps and epochs else None)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Begins a phase for the epoch."""
        self._training.set_phase(f"epoch {epoch + 1}")

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Counts the batch."""
        self._done += 1
        self._training.report_step(self._done)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Shows the new metrics."""
        self._training.report_metrics(logs)

    def on_train_end(self, logs: Any = None) -> None:
        """Ends the job."""
        self._training.end()
