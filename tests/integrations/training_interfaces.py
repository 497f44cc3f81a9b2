"""Stand-ins for the base classes of the callbacks of Hugging Face, Keras and Lightning.

They have the events that the integrations use, with the published signatures. Nothing is imported
here, so `python training_interfaces.py` works where the packages are installed: it compares the
signatures with theirs.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

from importlib import import_module
from inspect import signature

__all__ = ["INTERFACES", "differences"]


class TrainerCallback:
    """`transformers.trainer_callback.TrainerCallback`."""

    def on_train_begin(self, args, state, control, **kwargs):
        """Receives the model, the optimiser and others as keywords, like all methods."""

    def on_epoch_begin(self, args, state, control, **kwargs): ...
    def on_step_begin(self, args, state, control, **kwargs): ...
    def on_step_end(self, args, state, control, **kwargs): ...
    def on_log(self, args, state, control, **kwargs): ...
    def on_epoch_end(self, args, state, control, **kwargs): ...
    def on_train_end(self, args, state, control, **kwargs): ...


class KerasCallback:
    """`keras.callbacks.Callback`. `params` is set before the first event."""

    params: dict[str, int | None]

    def __init__(self):
        self.params = {}

    def on_train_begin(self, logs=None): ...
    def on_epoch_begin(self, epoch, logs=None): ...
    def on_train_batch_end(self, batch, logs=None): ...
    def on_epoch_end(self, epoch, logs=None): ...
    def on_train_end(self, logs=None): ...


class LightningCallback:
    """`lightning.pytorch.callbacks.Callback`."""

    def on_train_start(self, trainer, pl_module): ...
    def on_train_epoch_start(self, trainer, pl_module): ...
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx): ...
    def on_train_epoch_end(self, trainer, pl_module): ...
    def on_exception(self, trainer, pl_module, exception): ...
    def on_train_end(self, trainer, pl_module): ...


INTERFACES = {
    "huggingface": TrainerCallback,
    "keras": KerasCallback,
    "lightning": LightningCallback,
}
_REAL = {
    "huggingface": ("transformers.trainer_callback", "TrainerCallback"),
    "keras": ("keras.callbacks", "Callback"),
    "lightning": ("lightning.pytorch.callbacks", "Callback"),
}


def differences(name: str) -> list[str]:
    """Returns the events whose signature is another one in the installed framework."""
    module, base = _REAL[name]
    real = getattr(import_module(module), base)
    names = []
    for event, method in vars(INTERFACES[name]).items():
        if event.startswith("on_"):
            own, published = (
                [
                    (parameter.name, parameter.kind, parameter.default)
                    for parameter in signature(one).parameters.values()
                ]
                for one in (method, getattr(real, event))
            )
            if own != published:
                names.append(f"{event}: {own} is {published}")
    return names


if __name__ == "__main__":
    import sys

    sys.exit("\n".join(differences(sys.argv[1])) or 0)
