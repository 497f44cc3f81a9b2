"""The programs of docs/workers.md work: each is run, and its jobs end as expected."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from gateway import Gateway
from gateway.brokers.redis.codec import decode
from gateway.model.state import State
from tests.brokers.redis.server import Server, session_server
from tests.docs.test_readme import run
from tests.worker.fake_gateway import DEADLINE

PAGE = (Path(__file__).parent.parent.parent / "docs/workers.md").read_text()
PROGRAMS = {
    section.partition("\n")[0]: program
    for section in re.split(r"^##+ ", PAGE, flags=re.MULTILINE)
    for program in re.findall(r"```python\n(.*?)```", section, re.DOTALL)
}


@pytest.mark.parametrize(
    ("section", "ends"),
    [
        ("In Python", {"book:1": ("succeeded", "typesetting chapter one")}),
        ("Several processes that count", {"book:2": ("succeeded", None)}),
        (
            "Queued and withdrawn jobs",
            {
                "print:1": ("succeeded", None),
                "print:2": ("succeeded", None),
                "print:3": ("cancelled", "out of paper"),
            },
        ),
        ("Stopping by a signal", {"import:8": ("succeeded", None)}),
        ("tqdm", {"train:7": ("succeeded", "loss=0.3")}),
        ("logging", {"import:7": ("succeeded", "row 12 has no date")}),
        ("OpenTelemetry", {"video:7": ("succeeded", None)}),
    ],
)
async def test_the_documented_program_works(
    gateway: Gateway, section: str, ends: dict[str, tuple[str, str | None]]
) -> None:
    await trio.to_thread.run_sync(lambda: run(PROGRAMS[section], PROGRESS_GATEWAY_URL=gateway.url))
    for job, end in ends.items():
        state = (await gateway.node.broker.read([job]))[job].state
        assert (state.status, state.message) == end


def test_the_documented_program_handles_sigterm() -> None:
    program, work = PROGRAMS["Stopping by a signal"], "pass  # insert(row)"
    hurry = (
        "while True: job.update(message=str(time.monotonic()))"  # the history begins with a change
    )
    assert program.count(work) == 1
    server = session_server()
    with subprocess.Popen(
        [sys.executable, "-c", "import time\n" + program.replace(work, hurry)],
        env=os.environ | {"PROGRESS_GATEWAY_URL": server.url},
        stderr=subprocess.DEVNULL,
    ) as worker:
        try:
            assert server.client.xread({"progress:log:import:8": "0"}, block=20_000)
            worker.terminate()
            states = states_of(server, "import:8")
        finally:
            worker.kill()
    assert (states[-1].status, states[-1].total) == ("cancelled", 1000)


def test_the_celery_example_works(tmp_path: Path) -> None:
    """The example uses a prefork pool and reports directly to a Redis; `test_celery` covers
    HTTP."""
    program, address = PROGRAMS["Celery"], "redis://127.0.0.1:6379"
    assert program.count(address) == 1
    server = session_server()
    broker = f"redis+socket://{server.socket}"
    (tmp_path / "videos.py").write_text(program.replace(address, broker))
    environment = {"PROGRESS_GATEWAY_URL": server.url, "PYTHONPATH": str(tmp_path)}
    arguments = ["worker", "--pool=prefork", "--concurrency=1", "--loglevel=warning"]
    with subprocess.Popen(
        [sys.executable, "-c", f"import videos; videos.app.worker_main({arguments})"],
        env=os.environ | environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    ) as worker:
        run("import videos; videos.encode.delay(42)", warnings="default", **environment)
        states = states_of(server, "encode:42")
        worker.terminate()
        _, output = worker.communicate(timeout=DEADLINE)
    assert states[0].status == "queued"
    assert (states[-1].status, states[-1].attempt, states[-1].done) == ("succeeded", 1, 300)
    assert b"gateway" not in output


def states_of(server: Server, job: str) -> list[State]:
    """Waits until `job` has ended, and returns its states."""
    states: list[State] = []
    after = "0"
    while not states or not states[-1].final:
        entries_by_stream = server.client.xread({f"progress:log:{job}": after}, block=20_000)
        assert entries_by_stream, states
        for _, entries in entries_by_stream:
            states += [decode(fields[b"event"])[1].state for _, fields in entries]
            after = entries[-1][0]
    return states


def test_every_documented_program_is_tested() -> None:
    integrations = {"tqdm", "Celery", "logging", "OpenTelemetry"}
    by_hand = {
        "In Python",
        "Several processes that count",
        "Queued and withdrawn jobs",
        "Stopping by a signal",
    }
    assert set(PROGRAMS) == by_hand | integrations
    assert PAGE.count("```python") == len(PROGRAMS)
