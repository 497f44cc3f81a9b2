"""The programs of docs/workers-http, unchanged, against real gateways. Each reports one job and
processes its stdin, so a test decides how far it gets. Go's is built; where `net/http` would have
to be compiled first (a minute), only if `GATEWAY_TEST_GO` is set.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytest

from gateway.model.state import State
from tests.cli.processes import GATEWAY, Running, clean_environment
from tests.worker.fake_gateway import DEADLINE
from tests.worker.recorder import Recorder

PROGRAMS = Path(__file__).parents[2] / "docs/workers-http"


@pytest.fixture(scope="session")
def commands(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The command for each program whose language is installed."""
    command_lines = {"sh": ["sh", str(PROGRAMS / "worker.sh")]}
    if shutil.which("node"):
        command_lines["node"] = ["node", str(PROGRAMS / "worker.mjs")]
    if shutil.which("go") and (os.environ.get("GATEWAY_TEST_GO") or _net_http_is_built()):
        program = tmp_path_factory.mktemp("go") / "worker"
        subprocess.run(["go", "build", "-o", program, PROGRAMS / "worker.go"], check=True)
        command_lines["go"] = [str(program)]
    return command_lines


def _net_http_is_built() -> bool:
    listed = subprocess.run(
        ["go", "list", "-f", "{{.Stale}}", "net/http"],
        capture_output=True,
        text=True,
        check=False,
    )
    return listed.stdout.strip() == "false"


class Worker:
    """A running worker, which is killed at the end of the block."""

    def __init__(self, command: list[str], url: str, job: str, *, lease: float) -> None:
        environment = clean_environment(PROGRESS_GATEWAY_URL=url, LEASE=str(lease))
        self.process = subprocess.Popen(
            [*command, job, "3"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
            text=True,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.communicate()

    def work(self, *items: str) -> None:
        assert self.process.stdin is not None
        for item in items:
            self.process.stdin.write(f"{item}\n")
        self.process.stdin.flush()

    def said(self) -> str:
        """Waits for the next line on the stderr of the worker."""
        assert self.process.stderr is not None
        return self.process.stderr.readline()

    def finish(self) -> str:
        """Closes the stdin of the worker and waits until it exits. Returns its stderr."""
        _, errors = self.process.communicate(timeout=DEADLINE)
        assert self.process.returncode == 0, errors
        return errors


def state_of(url: str, job: str, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Waits until the gateway shows this state of `job`."""
    deadline = time.monotonic() + DEADLINE
    last_state: object = None
    position = '"0-0"'
    while time.monotonic() < deadline:
        request = urllib.request.Request(  # noqa: S310 - ours
            f"{url}/api/jobs/{job}?wait=1", headers={"if-none-match": position}
        )
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE) as answer:  # noqa: S310 - ours
                position, last_state = answer.headers["etag"], json.load(answer)["state"]
        except urllib.error.HTTPError as error:
            error.close()
        except OSError:
            time.sleep(0.05)  # the gateway is not running
            continue
        if isinstance(last_state, dict) and condition(last_state):
            return last_state
    raise AssertionError(f"{job}: {last_state}")


def test_a_killed_gateway_does_not_lose_the_job(commands: dict[str, list[str]]) -> None:
    """The gateway loses all jobs. Each worker continues its attempt, with the correct duration."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    serve = (*GATEWAY, "serve", "--bind", f"127.0.0.1:{port}")
    workers = {}
    try:
        with Running(*serve) as served:
            served.until(url)
            for language, command in commands.items():
                workers[language] = Worker(command, url, f"job:{language}", lease=3)
                workers[language].work("one")
            before = {
                language: state_of(url, f"job:{language}", lambda state: state.get("done") == 1)
                for language in workers
            }
            served.tell(signal.SIGKILL)
        for worker in workers.values():
            worker.work("two")
        for worker in workers.values():
            assert "not reported, will be tried again" in worker.said()
        with Running(*serve) as served:
            served.until(url)
            for language, worker in workers.items():
                after = state_of(url, f"job:{language}", lambda state: state.get("done") == 2)
                worker.work("three")
                assert "no longer" not in worker.finish()
                end = state_of(url, f"job:{language}", lambda state: state["status"] != "running")
                for state in (after, end):
                    assert (state["attempt"], state["total"]) == (1, 3)
                    # Whole seconds in the shell, and the clock of another process.
                    assert abs(state["started_at"] - before[language]["started_at"]) < 2
                assert (end["status"], end["done"], end["percent"]) == ("succeeded", 3, 100)
    finally:
        for worker in workers.values():
            worker.__exit__()


@pytest.mark.parametrize("language", ["sh", "node", "go"])
def test_the_later_worker_supersedes_and_a_killed_one_is_stalled(
    language: str, commands: dict[str, list[str]], recorder: Recorder
) -> None:
    if language not in commands:
        pytest.skip(f"no {language} here")

    def start() -> Worker:
        return Worker(commands[language], recorder.url, "job", lease=1)

    def counted(attempt: int) -> Callable[[State], bool]:
        return lambda state: (state.attempt, state.done) == (attempt, 1)

    with start() as first_worker, start_after(recorder, first_worker, start) as second_worker:
        second_worker.work("one")
        recorder.states("job", counted(2))
        first_worker.work("two")
        assert "no longer reported" in first_worker.finish()
        # Nobody has waited for the process, so its id stays in use after its end.
        second_worker.process.kill()
        stalled = recorder.states("job", lambda state: state.health == "stalled")
        assert {state.done for state in stalled if state.attempt == 2} <= {0, 1, None}
        with start() as third_worker:
            third_worker.work("one", "two", "three")
            assert third_worker.finish() == ""
    end = recorder.states("job")[-1]
    assert (end.status, end.attempt, end.done) == ("succeeded", 3, 3)


def start_after(recorder: Recorder, first: Worker, start: Callable[[], Worker]) -> Worker:
    """Starts a second worker when the first one has reported."""
    first.work("one")
    recorder.states("job", lambda state: state.done == 1)
    return start()


@pytest.mark.parametrize("program", ["worker.sh", "worker.mjs", "worker.go"])
def test_without_a_url_the_local_gateway_is_used(program: str) -> None:
    text = (PROGRAMS / program).read_text()
    assert re.search(r"PROGRESS_GATEWAY_URL.*http://127\.0\.0\.1:8000", text)


@pytest.mark.parametrize("program", ["worker.sh", "worker.mjs", "worker.go"])
def test_the_documented_loop_has_at_most_forty_lines(program: str) -> None:
    text = (PROGRAMS / program).read_text()
    match = re.search(r"^(?://|#) The loop\.$(.*?)^(?://|#) The worker\.$", text, re.M | re.S)
    assert match
    lines = [line.strip() for line in match[1].splitlines()]
    assert len([line for line in lines if line and not line.startswith(("//", "#"))]) <= 40
