"""`gateway cancel`, against a real gateway and a real `gateway run`."""

from __future__ import annotations

import sys

from .processes import GATEWAY, Running

STUBBORN = """
import signal, time
signal.signal(15, signal.SIG_IGN)
print("x", flush=True)
time.sleep(60)
"""


def finish(*command: str) -> tuple[int, str]:
    with Running(*GATEWAY, *command) as running:
        return running.end(), running.output.decode() + running.errors


def publish(url: str, *fields: str) -> None:
    assert finish("publish", "a:1", "--url", url, *fields)[0] == 0


def test_a_job_that_cannot_be_cancelled_is_reported(url: str) -> None:
    code, text = finish("cancel", "a:1", "--url", url)
    assert (code, "No worker has reported this job" in text) == (1, True)
    publish(url, "--percent", "1")
    code, text = finish("cancel", "a:1", "--url", url)
    assert (code, "does not accept" in text) == (1, True)
    assert finish("cancel", "a:1", "--url", url, "--verb", "No!")[0] == 2
    assert finish("cancel", "a:1", "--url", "http://127.0.0.1:9")[0] == 3


def test_a_command_is_stopped_and_the_job_is_cancelled(url: str) -> None:
    with Running(*GATEWAY, "run", "a:1", "--url", url, "--", "sleep", "60") as running:
        while finish("cancel", "a:1", "--url", url)[0] != 0:  # until the gateway has the job
            assert running.process.poll() is None
        assert running.end() == 128 + 15
    code, text = finish("watch", "a:1", "--url", url)
    assert (code, "cancelled" in text.lower(), "SIGTERM" in text) == (1, True, True)


def test_a_command_that_ignores_sigterm_is_killed(url: str) -> None:
    command = ("run", "a:1", "--url", url, "--grace", "0.2", "--", sys.executable, "-c", STUBBORN)
    with Running(*GATEWAY, *command) as running:
        running.until("x")
        code, text = finish("cancel", "a:1", "--url", url, "--wait")
        assert (code, "cancelled" in text) == (0, True)
        assert running.end() == 128 + 9
