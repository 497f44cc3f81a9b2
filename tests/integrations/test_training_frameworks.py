"""The callbacks for training loops under the frameworks themselves, on a CPU.

PyTorch is some gigabytes, so these run only where `GATEWAY_TEST_TRAINING` names a Python that has
the packages: `pip install . keras transformers accelerate lightning torch`. `test_training.py`
compares the callbacks with the published interfaces.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.worker.fake_gateway import DEADLINE
from tests.worker.recorder import Recorder

PYTHON = os.environ.get("GATEWAY_TEST_TRAINING")
ROOT = Path(__file__).parents[2]
STARTS = 4 * DEADLINE
"""Seconds for a framework to be imported, and to train."""

KERAS = """
import keras
import numpy as np
from gateway.integrations.keras import JobCallback

model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(1)])
model.compile(loss="mse", optimizer="sgd")
x, y = np.ones((64, 4)), np.ones((64, 1))

def fit(callback, *others):
    model.fit(x, y, epochs=3, batch_size=16, verbose=0, callbacks=[callback, *others])

class Broken(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        raise ValueError("nan")
"""
HUGGING_FACE = """
import tempfile
import torch
from transformers import Trainer, TrainerCallback, TrainingArguments
from gateway.integrations.huggingface import JobCallback

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 1)

    def forward(self, x, labels=None):
        return {"loss": ((self.linear(x) - labels) ** 2).mean()}

data = [{"x": torch.ones(4), "labels": torch.ones(1)} for _ in range(32)]

def fit(*callbacks):
    options = TrainingArguments(
        output_dir=tempfile.mkdtemp(), num_train_epochs=3, per_device_train_batch_size=8,
        use_cpu=True, report_to=[], save_strategy="no", logging_steps=1, disable_tqdm=True,
    )
    Trainer(Model(), options, train_dataset=data, callbacks=list(callbacks)).train()

class Broken(TrainerCallback):
    def on_step_end(self, args, state, control, **_):
        raise ValueError("nan")
"""
LIGHTNING = """
import lightning
import torch
from gateway.integrations.lightning import JobCallback

class Model(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 1)

    def training.report_step(self, batch, index):
        loss = self.linear(batch).mean()
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

data = torch.utils.data.DataLoader(torch.ones(32, 4), batch_size=8)

def fit(*callbacks):
    lightning.Trainer(
        max_epochs=3, accelerator="cpu", callbacks=list(callbacks), logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    ).fit(Model(), data)

class Broken(lightning.Callback):
    def on_train_batch_end(self, *_):
        raise ValueError("nan")
"""
TRAIN = """
fit(JobCallback("whole"))
try:
    fit(JobCallback("broken"), Broken())
except ValueError:
    pass
from gateway import Job
try:
    with Job("in-a-block") as job:
        fit(JobCallback(job), Broken())
except ValueError:
    pass
"""


@pytest.mark.slow
@pytest.mark.skipif(PYTHON is None, reason="GATEWAY_TEST_TRAINING names no Python with frameworks")
@pytest.mark.parametrize(
    ("name", "program", "received"),
    [("keras", KERAS, False), ("huggingface", HUGGING_FACE, False), ("lightning", LIGHTNING, True)],
    ids=["keras", "huggingface", "lightning"],
)
def test_a_framework(name: str, program: str, received: bool, recorder: Recorder) -> None:
    """`received`: whether the framework passes exceptions to its callbacks."""
    assert PYTHON is not None
    environment = os.environ | {
        "KERAS_BACKEND": "torch",
        "PROGRESS_GATEWAY_URL": recorder.url,
        "PYTHONPATH": str(ROOT),
    }
    interfaces = [PYTHON, str(ROOT / "tests/integrations/training_interfaces.py"), name]
    subprocess.run(interfaces, env=environment, check=True, timeout=STARTS)
    subprocess.run([PYTHON, "-c", program + TRAIN], env=environment, check=True, timeout=STARTS)
    end = recorder.states("whole")[-1]
    assert (end.status, end.done, end.total, end.unit) == ("succeeded", 12, 12, "steps")
    assert end.phase == "epoch 3"
    assert "loss" in (end.message or "")
    in_a_block = recorder.states("in-a-block")[-1]
    assert (in_a_block.status, in_a_block.error) == ("failed", "ValueError: nan")
    broken = recorder.states("broken", lambda state: state.final or not received)[-1]
    assert (broken.status, broken.error) == (
        ("failed", "ValueError: nan") if received else ("running", None)
    )
