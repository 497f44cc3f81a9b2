"""What docs/workers.md shows works: each of its programs runs, and its jobs end as they should."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from gateway import Gateway
from tests.brokers.server import session_server
from tests.test_readme import run
from tests.worker.recorder import Recorder

PAGE = (Path(__file__).parent.parent.parent / "docs/workers.md").read_text()
SECTIONS = re.findall(r"^##+ (.*?)$.*?```python\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE)
PROGRAMS = dict(SECTIONS)


@pytest.mark.parametrize(
    ("section", "ends"),
    [
        ("In Python", {"book:1": ("succeeded", "typesetting chapter one")}),
        (
            "Queued, or taken back",
            {
                "print:1": ("succeeded", None),
                "print:2": ("succeeded", None),
                "print:3": ("cancelled", "out of paper"),
            },
        ),
        ("tqdm", {"train:7": ("succeeded", "loss=0.3")}),
        ("logging", {"import:7": ("succeeded", "row 12 has no date")}),
    ],
)
async def test_a_program(
    gateway: Gateway, section: str, ends: dict[str, tuple[str, str | None]]
) -> None:
    await trio.to_thread.run_sync(lambda: run(PROGRAMS[section], GATEWAY_URL=gateway.url))
    for job, end in ends.items():
        shown = (await gateway.node.broker.read([job]))[job].state
        assert (shown.status, shown.message) == end


def test_celery(tmp_path: Path) -> None:
    program, address = PROGRAMS["Celery"], "redis://127.0.0.1:6379"
    assert program.count(address) == 1
    broker = f"redis+socket://{session_server().socket}"
    (tmp_path / "videos.py").write_text(program.replace(address, broker))
    recorder = Recorder()
    environment = {"GATEWAY_URL": recorder.url, "PYTHONPATH": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", "import videos; videos.app.worker_main(['worker', '--pool=solo'])"],
        env=os.environ | environment,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    ) as worker:
        run("import videos; videos.encode.delay(42)", warnings="default", **environment)
        end = recorder.states("encode:42")[-1]
        worker.terminate()
    recorder.close()
    assert (end.status, end.attempt, end.done) == ("succeeded", 1, 300)


def test_every_program_of_the_page_is_run() -> None:
    assert set(PROGRAMS) == {"In Python", "Queued, or taken back", "tqdm", "Celery", "logging"}
    assert len(SECTIONS) == PAGE.count("```python") == len(PROGRAMS)
