"""The callbacks for training loops, against the published interfaces of the frameworks.

The packages are too large for these tests. So `training_interfaces` stands for them: it has their
published signatures, and a loop here calls the callbacks in the same order and with the same
arguments. `test_training_frameworks.py` compares the signatures with those of the real packages.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from importlib import import_module, reload
from inspect import signature
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from gateway.worker import Job
from tests.worker.fake_gateway import FakeGateway

from .training_interfaces import INTERFACES


@pytest.fixture
def callback(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """`JobCallback` of the integration that `request.param` names."""
    name, module, base = request.param
    parts = module.split(".")
    for i in range(len(parts)):
        monkeypatch.setitem(sys.modules, ".".join(parts[: i + 1]), ModuleType(parts[i]))
    setattr(sys.modules[module], base, INTERFACES[name])
    full = f"gateway.integrations.{name}"
    loaded = full in sys.modules
    imported = import_module(full)
    yield (reload(imported) if loaded else imported).JobCallback
    sys.modules.pop(full, None)


HUGGING_FACE = ("huggingface", "transformers.trainer_callback", "TrainerCallback")
KERAS = ("keras", "keras.callbacks", "Callback")
LIGHTNING = ("lightning", "lightning.pytorch.callbacks", "Callback")


@pytest.mark.parametrize("callback", [HUGGING_FACE, KERAS, LIGHTNING], indirect=True)
def test_a_callback_can_be_called_as_its_framework_publishes(callback: Any) -> None:
    events = {name: each for name, each in vars(callback).items() if name.startswith("on_")}
    assert events
    for name, method in events.items():
        published = signature(getattr(callback.__mro__[1], name)).parameters.values()
        names = [each.name for each in published if each.kind != each.VAR_KEYWORD]
        more = {"model": None, "logs": None} if len(names) < len(published) else {}
        signature(method).bind(*names, **more)
        signature(method).bind(**dict.fromkeys(names), **more)


def end(fake_gateway: FakeGateway, job: str) -> dict[str, Any]:
    fake_gateway.wait_for(lambda _: fake_gateway.ends(job))
    return fake_gateway.ends(job)[0].fields


def displayed_fields(fields: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(fields.get(name) for name in ("status", "done", "total", "phase", "message"))


def call_hugging_face(called: Any, state: Any, event: str, **more: Any) -> None:
    """Calls a callback like `CallbackHandler.call_event`."""
    of_the_trainer = dict.fromkeys(
        (
            *("model", "processing_class", "optimizer", "lr_scheduler"),
            *("train_dataloader", "eval_dataloader"),
        )
    )
    getattr(called, event)(None, state, None, **of_the_trainer, **more)


@pytest.mark.parametrize("callback", [HUGGING_FACE], indirect=True)
def test_hugging_face_training_is_reported(fake_gateway: FakeGateway, callback: Any) -> None:
    called = callback("train:7", url=fake_gateway.url)
    state = SimpleNamespace(is_world_process_zero=True, max_steps=4, global_step=0, epoch=0.0)
    call = partial(call_hugging_face, called, state)
    call("on_train_begin")
    for _ in range(2):
        call("on_epoch_begin")
        for _ in range(2):
            call("on_step_begin")
            state.global_step += 1
            state.epoch += 0.5
            call("on_step_end")
        call("on_epoch_end")
    call("on_log", logs={"loss": 0.123456, "epoch": 2})
    call("on_train_end")
    assert displayed_fields(end(fake_gateway, "train:7")) == (
        "succeeded",
        4,
        4,
        "epoch 2",
        "loss 0.1235, epoch 2",
    )


@pytest.mark.parametrize("callback", [HUGGING_FACE], indirect=True)
def test_hugging_face_reports_in_one_of_several_processes(
    fake_gateway: FakeGateway, callback: Any
) -> None:
    training_callback = callback("train:7", url=fake_gateway.url)
    state = SimpleNamespace(is_world_process_zero=False, max_steps=4, global_step=1, epoch=0.0)
    training_callback.on_train_begin(None, state, None)
    training_callback.on_step_end(None, state, None)
    training_callback.on_train_end(None, state, None)
    assert not fake_gateway.received


@pytest.mark.parametrize("callback", [KERAS], indirect=True)
def test_keras_training_is_reported(fake_gateway: FakeGateway, callback: Any) -> None:
    training_callback = callback("train:7", url=fake_gateway.url)
    training_callback.params = {"verbose": 1, "epochs": 2, "steps": 3}
    training_callback.on_train_begin()
    for epoch in range(2):
        training_callback.on_epoch_begin(epoch)
        for batch in range(3):
            training_callback.on_train_batch_end(batch, {"loss": 1.0})
        training_callback.on_epoch_end(epoch, {"loss": 0.5, "name": "x"})
    training_callback.on_train_end()
    assert displayed_fields(end(fake_gateway, "train:7")) == (
        "succeeded",
        6,
        6,
        "epoch 2",
        "loss 0.5",
    )


@pytest.mark.parametrize("callback", [LIGHTNING], indirect=True)
@pytest.mark.parametrize(
    ("error", "status"),
    [(None, "succeeded"), (ValueError("nan"), "failed"), (KeyboardInterrupt(), "cancelled")],
)
def test_lightning_training_is_reported(
    fake_gateway: FakeGateway, callback: Any, error: BaseException | None, status: str
) -> None:
    training_callback = callback("train:7", url=fake_gateway.url)
    trainer = SimpleNamespace(
        is_global_zero=True,
        estimated_stepping_batches=2,
        current_epoch=0,
        global_step=0,
        callback_metrics={"loss": SimpleNamespace(item=lambda: 0.25)},
    )
    training_callback.on_train_start(trainer, None)
    training_callback.on_train_epoch_start(trainer, None)
    for batch in range(2):
        trainer.global_step += 1
        training_callback.on_train_batch_end(trainer, None, None, None, batch)
    training_callback.on_train_epoch_end(trainer, None)
    if error is not None:
        training_callback.on_exception(trainer, None, error)
    else:
        training_callback.on_train_end(trainer, None)
    fields = end(fake_gateway, "train:7")
    assert fields["status"] == status
    assert displayed_fields(fields)[1:] == (2, 2, "epoch 1", "loss 0.25")


@pytest.mark.parametrize("callback", [KERAS], indirect=True)
def test_an_existing_job_is_left_open(fake_gateway: FakeGateway, callback: Any) -> None:
    with Job("train:7", url=fake_gateway.url) as job:
        training_callback = callback(job)
        training_callback.params = {"epochs": 1, "steps": None}
        training_callback.on_train_begin()
        training_callback.on_train_batch_end(0)
        training_callback.on_train_end()
        assert job.status == "running"
    assert end(fake_gateway, "train:7")["done"] == 1
