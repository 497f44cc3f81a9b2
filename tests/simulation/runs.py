"""Runs a scenario: the code under test in a simulated world, on a virtual clock."""

from __future__ import annotations

import ast
import gc
import logging
import random
import sys
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import trio
from attrs import frozen
from trio._core import _run

from gateway.brokers.redis import broker
from gateway.worker import job as worker_job
from gateway.worker import publisher, sender

from . import workers
from .checks import Violated
from .hosts import leaves
from .scenario import Scenario
from .scheduler import JumpingClock, let_processes_pause
from .sockets import Servers
from .threads import current_process, simulated
from .world import World

__all__ = ["Outcome", "run", "version"]

ROOT = Path(__file__).parents[2]
SIMULATED = ("auth", "brokers", "delivery", "http", "model", "node", "observability", "protocol",
             "transports", "worker")  # fmt: skip
"""The folders of the package whose code a run can execute."""

COLLECTED_EVERY = 20
"""Runs between two garbage collections. There is none during a run, so that no run depends on its
time."""


@frozen
class Outcome:
    """The outcome of a run."""

    scenario: Scenario
    trace: list[str]
    violation: str | None
    seconds: float
    """Virtual seconds."""
    frames: int

    @property
    def digest(self) -> str:
        return sha256("\n".join(self.trace).encode()).hexdigest()


class _ToTrace(logging.Handler):
    """Adds the gateway's warnings and errors to the trace."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.WARNING)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        self._world.note(f"LOG {current_name()} {record.getMessage()}")


def current_name() -> str:
    try:
        return current_process().name
    except LookupError:
        return "?"


def _servers(address: Any, *, calls: int) -> Servers:
    """Replaces `open_servers`."""
    name = current_process().name
    return Servers(WORLD[0].links[name], calls=calls)


def _node_name() -> Any:
    """Replaces `uuid4`, so that the data of a Redis shows which node has registered."""
    return SimpleNamespace(hex=current_process().name)


WORLD: list[World] = []
"""The current run, if any."""


@contextmanager
def _in_place() -> Iterator[None]:
    """Run the code under test in this world."""
    with ExitStack() as stack:
        stack.enter_context(simulated("gateway."))
        for name, module in sorted(sys.modules.items()):
            if name.startswith("gateway.") and hasattr(module, "open_servers"):
                stack.enter_context(patch.object(module, "open_servers", _servers))
        stack.enter_context(patch.object(publisher, "connect", workers.connect))
        stack.enter_context(patch.object(broker, "uuid4", _node_name))
        # A simulated worker runs no event loop, although it is part of this process's loop.
        stack.enter_context(patch.object(worker_job, "running_loop", lambda: None))
        yield


def run(scenario: Scenario) -> Outcome:
    """Run the scenario until its end, or until the first violation."""
    world = World(scenario)
    WORLD[:] = [world]
    workers.WORKERS.clear()
    sender._senders.clear()
    # Trio shuffles the tasks of each scheduler pass, so that no program relies on their order. Its
    # random generator has no public name; Hypothesis seeds the same one.
    _run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]  # a constant
    _run._r.seed(f"trio/{scenario.seed}")
    random.seed(f"global/{scenario.seed}")
    clock = JumpingClock()
    handler = _ToTrace(world)
    logger = logging.getLogger("gateway")
    worker_logger = logging.getLogger("progress")
    violation: str | None = None
    gc.disable()
    try:
        logger.addHandler(handler)
        worker_logger.addHandler(handler)
        logger.propagate = worker_logger.propagate = False
        with _in_place():
            trio.run(_with_deadline, world, clock=clock)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        violation = _explain(error)
    finally:
        logger.removeHandler(handler)
        worker_logger.removeHandler(handler)
        logger.propagate = worker_logger.propagate = True
        gc.enable()
        if scenario.seed % COLLECTED_EVERY == 0:
            gc.collect()
    return Outcome(
        scenario,
        world.trace,
        violation,
        seconds=clock.current_time(),
        frames=world.checks.frames,
    )


def version() -> str:
    """Returns a name for the code of a run: a hash of the modules that a run can execute, without
    comments and docstrings, and of the Lua scripts. Seeds of one version can be added up."""
    digest = sha256()
    folders = [ROOT / "gateway" / folder for folder in SIMULATED]
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    files += [
        file
        for file in (ROOT / "tests" / "simulation").glob("*.py")
        if not file.name.startswith(("test_", "mutants"))
    ]
    for file in sorted(file for file in files if file.suffix in (".py", ".lua")):
        text = file.read_text()
        digest.update(_without_prose(text) if file.suffix == ".py" else text.encode())
    return digest.hexdigest()[:10]


def _without_prose(text: str) -> bytes:
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(getattr(node, "body", None), list):
            node.body = [each for each in node.body if not _is_text(each)]  # type: ignore[attr-defined]
    return ast.dump(tree).encode()


def _is_text(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


async def _with_deadline(world: World) -> None:
    let_processes_pause()
    with trio.fail_after(400):
        await world.main()


def _explain(error: BaseException) -> str:
    """The first violation in a group. Any other exception is one too, because no task may fail."""
    found = list(leaves(error))
    for leaf in found:
        if isinstance(leaf, Violated):
            return str(leaf)
    leaf = found[0]
    where = "".join(traceback.format_exception(leaf, limit=-6))
    return f"no task dies: {leaf!r}\n{where}"
