"""The public API is complete and typed: programs of users are checked with mypy and pyright, which
find the errors in them."""

from __future__ import annotations

import builtins
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest

import gateway
from gateway.worker.checks import Keep
from gateway.worker.job import OtherFields
from gateway.worker.phases import PhaseRecord

ROOT = Path(__file__).parents[1]
PYRIGHT = ROOT / "web" / "node_modules" / ".bin" / "pyright"

WORKER = """
import trio

from gateway import Cancelled, Job, JobRequest, Phase, announce


def encode(frames: list[bytes]) -> None:
    announce("video:42", message="queued")
    with Job(
        "video:42", unit="frames", accepts=["cancel", "pause"], interrupt=True
    ) as job:
        job.on_request(answer)
        phase: Phase[Job] = job.phase("encode", share=0.9)
        with phase:
            for frame in job.track(frames):
                job.update(message=f"{len(frame)} bytes")
        try:
            job.check()
        except Cancelled:
            job.cancel("stopped")


def answer(request: JobRequest) -> None:
    print(request.verb)


async def wait(seconds: list[float]) -> None:
    async with Job("wait:1", total=len(seconds)) as job:
        for pause in seconds:
            await trio.sleep(pause)
            job.advance()
        job.update(percent="half")  # error
        job.update(precent=50)  # error
        job.progress(50)  # error
"""

SERVER = """
from collections.abc import Sequence

import trio

from gateway import (
    Authenticator,
    Broker,
    CloseCode,
    Event,
    Gateway,
    Internal,
    InvalidSettings,
    Limits,
    MemoryBroker,
    Position,
    PublishResult,
    State,
    UpdateFields,
    create_app,
    open_authenticator,
    open_broker,
    open_gateway,
    serve_gateway,
)


async def main() -> None:
    limits = Limits(max_connections=100)
    broker: Broker = MemoryBroker(limits)
    authenticator: Authenticator = open_authenticator(secret="0" * 32)
    async with open_gateway(
        "127.0.0.1:0", broker, limits, authenticator=authenticator
    ) as gateway:
        print(gateway.url)
        await report(gateway)
        [event] = (await broker.read(["video:42"])).values()
        show(event.state, event.position)


async def report(gateway: Gateway) -> None:
    result: PublishResult = await gateway.publish("video:42", status="running", percent=10)
    fields: UpdateFields = {"message": "halfway", "percent": 50}
    await gateway.publish("video:42", **fields)
    print(result.applied, result.position.seq)
    await gateway.publish("video:42", precent=10)  # error
    await gateway.publish("video:42", status="runing")  # error
    await gateway.publish("video:42", percent="10")  # error
    await gateway.publish(job_id="video:42")  # error


def show(state: State, position: Position) -> None:
    print(state.percent, position.epoch)
    print(state.precent)  # error


async def follow(broker: Broker) -> Sequence[Event]:
    async with broker.feed() as feed:
        return await feed.receive()


async def in_a_nursery() -> Gateway:
    async with trio.open_nursery() as nursery:
        gateway: Gateway = await nursery.start(serve_gateway, "127.0.0.1:8000")
        return gateway


def explain(close_code: CloseCode) -> str:
    return f"{close_code.code} {close_code.reason}"


try:
    app = create_app(open_broker("redis://127.0.0.1:6379"))
except InvalidSettings as error:
    print(error)
create_app(limit=Limits())  # error
Internal(address="127.0.0.1:0")  # error
"""


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("programs")
    folder.joinpath("worker.py").write_text(WORKER)
    folder.joinpath("server.py").write_text(SERVER)
    return folder


def expected(folder: Path) -> set[tuple[str, int]]:
    """Returns the lines of the programs that are wrong."""
    return {
        (path.name, number)
        for path in folder.iterdir()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if line.endswith("# error")
    }


@pytest.mark.slow
def test_mypy_finds_the_errors_of_user_programs_and_no_others(programs: Path) -> None:
    # The project's own settings do not apply to users. The cache makes further runs fast.
    cache = ROOT / ".mypy_cache" / "programs"
    ran = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={cache}",
         "--hide-error-context", "--no-color-output", "worker.py", "server.py"],
        cwd=programs, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    found = {
        (name, int(line)) for name, line in re.findall(r"(?m)^(\w+\.py):(\d+): error", ran.stdout)
    }
    assert found == expected(programs), ran.stdout + ran.stderr


@pytest.mark.slow
def test_pyright_finds_the_errors_of_user_programs_and_no_others(programs: Path) -> None:
    if not PYRIGHT.exists():
        pytest.skip("needs pyright, from the development packages: cd web && npm install")
    ran = subprocess.run(
        [str(PYRIGHT), "--outputjson", "--pythonpath", sys.executable, "worker.py", "server.py"],
        cwd=programs, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    found = {
        (Path(problem["file"]).name, problem["range"]["start"]["line"] + 1)
        for problem in json.loads(ran.stdout)["generalDiagnostics"]
        if problem["severity"] == "error"
    }
    assert found == expected(programs), ran.stdout


PUBLIC = {name: getattr(gateway, name) for name in gateway.__all__}

INTERNAL = (
    OtherFields,  # it only types the keyword arguments of `Job.update`
    Keep,  # it only says that an argument was left out
    PhaseRecord,  # `Job.phase` makes a `Phase` with one; users do not
)


def signatures(value: Any) -> Iterator[Any]:
    """Yields a function, or the public methods, properties and annotated fields of a class."""
    if not inspect.isclass(value):
        if callable(value):
            yield value
        return
    yield value
    for name, member in vars(value).items():
        if name.startswith("_") and name not in ("__init__", "__enter__", "__aenter__"):
            continue
        function = member.fget if isinstance(member, property) else member
        function = getattr(function, "__func__", function)
        if inspect.isfunction(function):
            yield function


def classes_in(hint: Any) -> Iterator[type]:
    """Yields the gateway's own classes in a type hint, without protocols, which other classes
    match."""
    for part in (hint, get_origin(hint)):
        ours = isinstance(part, type) and part.__module__.startswith("gateway.")
        if ours and not getattr(part, "_is_protocol", False):
            yield part
    for argument in get_args(hint):
        for part in argument if isinstance(argument, list) else [argument]:
            yield from classes_in(part)


class Names(dict[str, Any]):
    """The public names, and `Any` for names that a module imports only for type checkers."""

    def __init__(self, module: str) -> None:
        super().__init__(PUBLIC)
        self._resolved = vars(sys.modules[module]) | vars(builtins)

    def __missing__(self, name: str) -> Any:
        if name in self._resolved:
            raise KeyError(name)
        return Any


@pytest.mark.parametrize("name", PUBLIC)
def test_types_in_public_signatures_are_public(name: str) -> None:
    for function in signatures(PUBLIC[name]):
        for field, hint in get_type_hints(function, localns=Names(function.__module__)).items():
            if field.startswith("_"):
                continue
            for type_ in classes_in(hint):
                assert type_ in (*PUBLIC.values(), *INTERNAL), f"{function}: {field}"
