from __future__ import annotations

import json
import os
import signal
import sys
import threading
import urllib.request
from typing import Any
from urllib.parse import quote

import pytest

from tests.brokers.server import session_server
from tests.worker.peer import DEADLINE, Got, Peer, receipt

from .processes import GATEWAY, Running, Terminal

NOWHERE = "http://127.0.0.1:9"


def state(url: str, job: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url}/api/jobs/{quote(job)}", timeout=10) as response:  # noqa: S310 - ours
        found: dict[str, Any] = json.load(response)["state"]
        return found


def run(url: str, job: str, *command: str, flags: tuple[str, ...] = ()) -> Running:
    return Running(*GATEWAY, "run", job, "--url", url, *flags, "--", *command)


def python(program: str) -> tuple[str, ...]:
    return sys.executable, "-c", program


def test_output_goes_through_and_progress_is_read(url: str) -> None:
    program = (
        "import sys; sys.stdout.buffer.write(b'12/40\\n\\xff\\0\\r'); "
        "sys.stderr.buffer.write(b'an error, not a fatal one\\n')"
    )
    with run(url, "a", *python(program)) as running:
        assert running.end() == 0
        assert running.output == b"12/40\n\xff\0\r"
        assert running.errors == "an error, not a fatal one\n"
    ended = state(url, "a")
    assert ended["status"] == "succeeded"
    assert (ended["done"], ended["total"], ended["percent"]) == (12, 40, 100)


def test_output_comes_at_once_and_not_when_a_line_or_a_buffer_is_full(url: str) -> None:
    program = "import sys; print('37%', end='', flush=True); sys.stdin.read()"
    with Running(*GATEWAY, "run", "a", "--url", url, "--", *python(program), stdin=-1) as running:
        running.until("37%")
        # The unfinished line is read when nothing more comes: watch it arrive.
        with Running(*GATEWAY, "watch", "a", "--url", url) as watching:
            watching.until("running 37%")
            assert running.process.stdin is not None
            running.process.stdin.close()
            assert running.end() == 0
            assert watching.end() == 0


def test_it_ends_as_its_command_does(url: str) -> None:
    with run(url, "a", *python("print('at 37%'); raise SystemExit(3)")) as running:
        assert running.end() == 3
    ended = state(url, "a")
    assert (ended["status"], ended["error"]) == ("failed", "exit code 3")
    assert (ended["percent"], ended["message"]) == (37, "at 37%")


def test_a_command_that_was_killed(url: str) -> None:
    program = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    with run(url, "a", *python(program)) as running:
        assert running.end() == 128 + signal.SIGKILL
    assert state(url, "a")["error"] == "killed by SIGKILL"


@pytest.mark.parametrize(
    ("command", "code", "why"),
    [("no-such-command-here", 127, "No such file"), ("/etc/passwd", 126, "Permission denied")],
)
def test_a_command_that_cannot_be_started(url: str, command: str, code: int, why: str) -> None:
    with run(url, "a", command) as running:
        assert running.end() == code
        assert f"{command}: {why}" in running.errors
        assert "Traceback" not in running.errors
    ended = state(url, "a")
    assert ended["status"] == "failed"
    assert why in ended["error"]


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGHUP,
        signal.SIGQUIT,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGALRM,
    ],
)
def test_signals_reach_the_command_which_decides(url: str, number: signal.Signals) -> None:
    program = (
        "import signal, sys\n"
        "def told(number, frame): print(signal.Signals(number).name, flush=True); sys.exit(5)\n"
        f"signal.signal({int(number)}, told)\n"
        "print('ready', flush=True); signal.pause()"
    )
    with run(url, "a", *python(program)) as running:
        running.until("ready")
        running.tell(number)
        assert running.end() == 5
        assert number.name.encode() in running.output
    assert state(url, "a")["error"] == "exit code 5"


@pytest.mark.parametrize(
    ("key", "number"), [("\x03", signal.SIGINT), ("\x1c", signal.SIGQUIT)], ids=["c", "backslash"]
)
def test_a_key_in_a_terminal_reaches_the_command_once(
    url: str, key: str, number: signal.Signals
) -> None:
    """The terminal tells all processes in its foreground; we must not tell it again."""
    program = (
        "import signal\n"
        f"number = {int(number)}\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [number])\n"
        "print('ready', flush=True)\n"
        "signal.sigwait([number])\n"
        "print('once more:', signal.sigtimedwait([number], 0.5))"
    )
    command = (*GATEWAY, "run", "a", "--url", url, "--", *python(program))
    with Terminal(*command) as terminal:
        terminal.until("ready")
        terminal.type(key)
        terminal.until("once more: None")
        assert terminal.end() == 0


def test_a_signal_between_the_commands_end_and_ours(url: str) -> None:
    program = (
        "import os, signal\n"
        "ended, held = os.pipe()\n"
        "if os.fork() == 0:\n"
        "    os.close(held); os.read(ended, 1)\n"
        "    print('alone', flush=True); signal.pause()\n"
        "os._exit(3)"
    )
    with run(url, "a", *python(program)) as running:
        running.until("alone")
        running.tell(signal.SIGTERM)
        assert running.end() == 3
        os.killpg(running.process.pid, signal.SIGKILL)
    ended = state(url, "a")
    assert (ended["status"], ended["error"]) == ("failed", "exit code 3")


@pytest.mark.parametrize("late", [True, False], ids=["late", "never"])
def test_a_signal_while_the_end_is_on_its_way(peer: Peer, late: bool) -> None:
    signalled = threading.Event()

    def answer(got: Got) -> tuple[int, dict[str, str], bytes] | None:
        if got.fields["status"] == "succeeded":
            signalled.wait(DEADLINE)
        return receipt(1)(got)

    peer.always = answer
    with run(peer.url, "a", "true", flags=("--wait", "3600")) as running:
        peer.wait_for(lambda _: peer.ends("a"))
        running.tell(signal.SIGTERM)
        if late:
            signalled.set()
        assert running.end(within=DEADLINE / 2) == 0
        assert running.errors == ""
        signalled.set()


def test_a_gateway_that_is_away_changes_nothing_for_the_command() -> None:
    program = "print('out 12/40'); raise SystemExit(4)"
    with run(NOWHERE, "a", *python(program), flags=("--wait", "2")) as running:
        assert running.end() == 4
        assert running.output == b"out 12/40\n"
        assert "is away" in running.errors


def test_straight_to_a_redis() -> None:
    server = session_server()
    with run(server.url, "a", *python("print('12/40')")) as running:
        assert running.end() == 0
        assert running.errors == ""
    ended = server.client.hgetall("progress:last:a")
    assert (ended[b"status"], ended[b"done"], ended[b"total"]) == (b"succeeded", b"12", b"40")


def test_a_redis_that_refuses_changes_nothing_for_the_command() -> None:
    url = session_server().url.replace("unix://", "unix://nobody:hush@")
    with run(url, "a", *python("print('12/40'); raise SystemExit(4)")) as running:
        assert running.end() == 4
        assert running.output == b"12/40\n"
        assert "invalid username-password pair" in running.errors
        assert "hush" not in running.errors


def test_a_process_that_is_left_behind_is_not_waited_for(url: str) -> None:
    program = (
        "import os, sys, time\n"
        "if os.fork() == 0: time.sleep(60)\n"
        "else: print(os.getpid(), 'leaves'); sys.stdout.flush(); os._exit(0)"
    )
    with run(url, "a", *python(program)) as running:
        assert running.end(within=20) == 0
        os.killpg(running.process.pid, signal.SIGKILL)
    assert state(url, "a")["status"] == "succeeded"


def test_much_output_arrives_whole(url: str) -> None:
    program = "import sys; sys.stdout.write('0123456789abcdef\\n' * 300_000)"
    with run(url, "a", *python(program)) as running:
        assert running.end() == 0
        assert running.output == b"0123456789abcdef\n" * 300_000


def test_output_that_is_hard_to_read_does_not_hold_up_the_command(url: str) -> None:
    program = (
        "import sys; write = sys.stdout.write\n"
        "write('9' * 5_000 + '/' + '9' * 5_000 + '\\n')\n"
        "write('a:1/2 ' * 100_000 + '\\n')\n"
        "write('3/4\\n')"
    )
    with run(url, "a", *python(program)) as running:
        assert running.end() == 0
        assert len(running.output) == 10_002 + 600_001 + 4
        assert running.errors == ""
    assert state(url, "a")["done"] == 3


def test_a_defect_of_the_reading_is_none_of_the_command(url: str) -> None:
    program = (
        "from gateway import Job\n"
        "from gateway.cli.child import run_child\n"
        "class Broken(Job):\n"
        "    def update(self, **said):\n"
        "        if said: raise RuntimeError('a defect')\n"
        "        super().update()\n"
        f"raise SystemExit(run_child(['seq', '300000'], Broken('a', url={url!r})))"
    )
    with Running(*python(program)) as running:
        assert running.end() == 0
        assert running.output.endswith(b"\n300000\n")
        assert running.errors.count("RuntimeError: a defect") == 1
    assert state(url, "a")["status"] == "succeeded"


def test_when_nobody_reads_on_the_command_learns_it(url: str) -> None:
    program = "while True: print('y')"
    with run(url, "a", *python(program)) as running:
        running.until("y")
        assert running.process.stdout is not None
        running.process.stdout.close()
        assert running.process.wait(20) == 1  # Python's BrokenPipeError
    assert state(url, "a")["status"] == "failed"
