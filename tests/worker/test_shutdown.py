"""The shutdown of the interpreter: a process exits as it would without a job, and logs once which
states were not sent. Run on every installed Python. A thread that never starts, or that was stopped
while it held a lock, could hang here."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from time import monotonic

import pytest

from .fake_gateway import DEADLINE, FakeGateway

ROOT = Path(__file__).parents[2]
PYTHONS = sorted(Path.home().glob(".pyenv/versions/3.1[1-9]*/bin/python")) or [Path(sys.executable)]
PACKAGES = sysconfig.get_path("purelib")
"""The packages of this Python: tqdm has no compiled part, so other versions can import it."""

LATE = {
    "a module-level bar that is not closed": (
        "from gateway.integrations.tqdm import tqdm\n"
        "bar = tqdm(total=3, job='x', file=open('/dev/null', 'w'))\n"
        "bar.update(3)\n"
    ),
    "a generator inside of a block": (
        "from gateway.worker import Job\n"
        "def work():\n"
        "    with Job('x') as job:\n"
        "        for i in range(3): job.update(done=i); yield i\n"
        "generator = work(); next(generator)\n"
    ),
    "a __del__ that ends a job": (
        "from gateway.worker import Job\n"
        "class Late:\n"
        "    def __init__(self): self.job = Job('x')\n"
        "    def __del__(self):\n"
        "        self.job.update(message='late'); self.job.succeed(); self.job.wait()\n"
        "late = Late()\n"
        "import builtins; builtins.late = late\n"
    ),
    "a __del__ that uses a block": (
        "from gateway.worker import Job, announce\n"
        "class Late:\n"
        "    def __del__(self):\n"
        "        with Job('x', total=2) as job:\n"
        "            for _ in job.track('ab'): pass\n"
        "        announce('y')\n"
        "late = Late()\n"
    ),
    "a log record": (
        "import logging\n"
        "from gateway.worker import Job\n"
        "from gateway.integrations.logging import JobHandler\n"
        "job = Job('x')\n"
        "logging.getLogger('late').addHandler(JobHandler(job))\n"
        "class Late:\n"
        "    log = logging.getLogger('late')\n"
        "    def __del__(self): self.log.warning('bye')\n"
        "late = Late()\n"
    ),
    "an exit function": (
        "import atexit\n"
        "def late():\n"
        "    from gateway.worker import Job\n"
        "    with Job('x') as job: job.update(done=1)\n"
        "atexit.register(late)\n"
    ),
    "an asyncio task inside of a block": (
        "import asyncio\n"
        "from gateway.worker import Job\n"
        "async def work():\n"
        "    async with Job('x') as job:\n"
        "        job.update(done=1); began.set()\n"
        "        await asyncio.Event().wait()\n"
        "async def main():\n"
        "    global began, task\n"
        "    began = asyncio.Event(); task = asyncio.create_task(work()); await began.wait()\n"
        "loop = asyncio.new_event_loop(); loop.run_until_complete(main()); loop.close()\n"
    ),
    "work that an executor still has": (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from gateway.worker import Job\n"
        "def work(i):\n"
        "    with Job(f'y{i}') as job: job.update(done=1)\n"
        "executor = ThreadPoolExecutor(2)\n"
        "for i in range(20): executor.submit(work, i)\n"
    ),
    "threads that go on reporting": (
        "import threading\n"
        "from gateway.worker import Job\n"
        "job = Job('x'); job.update(done=0)\n"
        "def work():\n"
        "    while True: job.advance()\n"
        "for _ in range(3): threading.Thread(target=work, daemon=True).start()\n"
        "class Late:\n"
        "    def __del__(self): job.update(message='late')\n"
        "late = Late()\n"
    ),
}


def run(python: Path, program: str, url: str) -> tuple[int, str, float]:
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), PACKAGES]),
        "PROGRESS_GATEWAY_URL": url,
    }
    began = monotonic()
    result = subprocess.run(  # -S: the other packages are not for this Python
        [python, "-S", "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    return result.returncode, result.stderr, monotonic() - began


@pytest.mark.parametrize("python", PYTHONS, ids=lambda path: path.parts[-3])
@pytest.mark.parametrize("program", LATE.values(), ids=LATE.keys())
def test_the_exit_code_is_unchanged(fake_gateway: FakeGateway, python: Path, program: str) -> None:
    code, errors, _ = run(python, program, fake_gateway.url)
    assert code == 0, errors
    assert "Traceback" not in errors
    assert errors.count("not sent") <= 1


@pytest.mark.parametrize("python", PYTHONS, ids=lambda path: path.parts[-3])
def test_unsent_states_are_logged_in_one_line(fake_gateway: FakeGateway, python: Path) -> None:
    code, errors, _ = run(python, LATE["a __del__ that uses a block"], fake_gateway.url)
    assert (code, fake_gateway.requests_of("x"), fake_gateway.requests_of("y")) == (0, [], [])
    line = f"job x: not sent to {fake_gateway.url}, because the interpreter is shutting down\n"
    assert errors == line


@pytest.mark.parametrize("python", PYTHONS, ids=lambda path: path.parts[-3])
def test_a_subinterpreter_without_threads_goes_on(fake_gateway: FakeGateway, python: Path) -> None:
    code, errors, _ = run(
        python,
        "try: import _interpreters as interpreters\n"
        "except ImportError: import _xxsubinterpreters as interpreters\n"
        "within = '''\n"
        "from gateway.worker import Job\n"
        "with Job('x') as job: job.update(done=1)\n"
        "import sys; print('gone on', file=sys.stderr, flush=True)\n"
        "'''\n"
        "interpreter = interpreters.create()\n"
        "interpreters.run_string(interpreter, within)\n"
        "interpreters.destroy(interpreter)\n",
        fake_gateway.url,
    )
    assert code == 0, errors
    line, gone_on = errors.splitlines()
    assert line.startswith(f"cannot start the thread that reports progress to {fake_gateway.url}: ")
    assert gone_on == "gone on"


@pytest.mark.parametrize("python", PYTHONS, ids=lambda path: path.parts[-3])
def test_the_exit_without_a_gateway_is_not_delayed(nowhere: str, python: Path) -> None:
    for program in LATE.values():
        code, errors, took = run(python, program, nowhere)
        assert code == 0, errors
        assert took < 10.0, program
