from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from typing import Any
from urllib.parse import quote

import pytest

from tests.brokers.redis.server import session_server
from tests.cli.processes import GATEWAY, Running, Terminal
from tests.worker.fake_gateway import DEADLINE, FakeGateway, ReceivedRequest, accepted

NOWHERE = "http://127.0.0.1:9"


def state(url: str, job: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url}/api/jobs/{quote(job)}", timeout=10) as response:  # noqa: S310 - ours
        found: dict[str, Any] = json.load(response)["state"]
        return found


def run(url: str, job: str, *command: str, flags: tuple[str, ...] = ()) -> Running:
    return Running(*GATEWAY, "run", job, "--url", url, *flags, "--", *command)


def python(program: str) -> tuple[str, ...]:
    return sys.executable, "-c", program


def test_output_is_forwarded_and_progress_is_read(url: str) -> None:
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


def test_output_is_forwarded_immediately(url: str) -> None:
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


def test_the_exit_code_is_the_commands(url: str) -> None:
    with run(url, "a", *python("print('37% done'); raise SystemExit(3)")) as running:
        assert running.end() == 3
    ended = state(url, "a")
    assert (ended["status"], ended["error"]) == ("failed", "exit code 3")
    assert (ended["percent"], ended["message"]) == (37, "37% done")


def test_a_killed_command_fails_the_job(url: str) -> None:
    program = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    with run(url, "a", *python(program)) as running:
        assert running.end() == 128 + signal.SIGKILL
    assert state(url, "a")["error"] == "killed by SIGKILL"


@pytest.mark.parametrize(
    ("command", "code", "why"),
    [("no-such-command-here", 127, "No such file"), ("/etc/passwd", 126, "Permission denied")],
)
def test_a_command_that_cannot_be_started_fails_the_job(
    url: str, command: str, code: int, why: str
) -> None:
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
def test_signals_are_forwarded_to_the_command(url: str, number: signal.Signals) -> None:
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
    """The terminal signals all foreground processes, so the signal must not be forwarded again."""
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


def test_a_signal_after_the_commands_end_does_not_lose_the_end(url: str) -> None:
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
def test_a_signal_during_the_final_report_shortens_the_wait(
    fake_gateway: FakeGateway, late: bool
) -> None:
    signalled = threading.Event()

    def answer(got: ReceivedRequest) -> tuple[int, dict[str, str], bytes] | None:
        if got.fields["status"] == "succeeded":
            signalled.wait(DEADLINE)
        return accepted(1)(got)

    fake_gateway.default_answer = answer
    with run(fake_gateway.url, "a", "true", flags=("--wait", "3600")) as running:
        fake_gateway.wait_for(lambda _: fake_gateway.ends("a"))
        running.tell(signal.SIGTERM)
        if late:
            signalled.set()
        assert running.end(within=DEADLINE / 2) == 0
        assert running.errors == ""
        signalled.set()


def test_an_unavailable_gateway_does_not_affect_the_command() -> None:
    program = "print('done 12/40'); raise SystemExit(4)"
    with run(NOWHERE, "a", *python(program), flags=("--wait", "2")) as running:
        assert running.end() == 4
        assert running.output == b"done 12/40\n"
        assert "is unavailable" in running.errors


def test_a_command_can_be_reported_directly_to_redis() -> None:
    server = session_server()
    with run(server.url, "a", *python("print('12/40')")) as running:
        assert running.end() == 0
        assert running.errors == ""
    ended = server.client.hgetall("progress:last:a")
    assert (ended[b"status"], ended[b"done"], ended[b"total"]) == (b"succeeded", b"12", b"40")


def test_a_redis_that_refuses_does_not_affect_the_command() -> None:
    url = session_server().url.replace("unix://", "unix://nobody:hush@")
    with run(url, "a", *python("print('12/40'); raise SystemExit(4)")) as running:
        assert running.end() == 4
        assert running.output == b"12/40\n"
        assert "invalid username-password pair" in running.errors
        assert "hush" not in running.errors


def test_a_background_process_of_the_command_is_not_waited_for(url: str) -> None:
    program = (
        "import os, sys, time\n"
        "if os.fork() == 0: time.sleep(60)\n"
        "else: print(os.getpid(), 'leaves'); sys.stdout.flush(); os._exit(0)"
    )
    with run(url, "a", *python(program)) as running:
        assert running.end(within=20) == 0
        os.killpg(running.process.pid, signal.SIGKILL)
    assert state(url, "a")["status"] == "succeeded"


def test_large_output_is_forwarded_completely(url: str) -> None:
    program = "import sys; sys.stdout.write('0123456789abcdef\\n' * 300_000)"
    with run(url, "a", *python(program)) as running:
        assert running.end() == 0
        assert running.output == b"0123456789abcdef\n" * 300_000


def test_output_that_is_slow_to_read_does_not_delay_the_command(url: str) -> None:
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


def test_an_exception_while_reading_does_not_affect_the_command(url: str) -> None:
    program = (
        "from gateway import Job\n"
        "from gateway.cli.run.child import run_child\n"
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


def test_a_closed_stdout_reaches_the_command(url: str) -> None:
    program = "while True: print('y')"
    with run(url, "a", *python(program)) as running:
        running.until("y")
        assert running.process.stdout is not None
        running.process.stdout.close()
        assert running.process.wait(20) == 1  # Python's BrokenPipeError
    assert state(url, "a")["status"] == "failed"


def test_stdout_and_stderr_keep_their_order_in_one_file() -> None:
    program = (
        "import os\n"
        "for i in range(300): os.write(1, b'out %d\\n' % i); os.write(2, b'err %d\\n' % i)"
    )
    command = (*GATEWAY, "run", "a", "--dry-run", "--profile", "none", "--", *python(program))
    ended = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True, timeout=60
    )
    lines = [line for line in ended.stdout.splitlines() if not line.startswith(b"gateway:")]
    assert lines == [b"%s %d" % (name, i) for i in range(300) for name in (b"out", b"err")]


def test_options_define_the_progress_pattern(url: str) -> None:
    program = "print('5% of it'); print('lot <3|8> of sorting')"
    flags = ("--read", r"<(?P<done>\d+)\|(?P<total>\d+)> of (?P<phase>\w+)")
    with run(url, "a", *python(program), flags=flags) as running:
        assert running.end() == 0
    ended = state(url, "a")
    assert (ended["done"], ended["total"], ended["phase"]) == (3, 8, "sorting")


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (("--read", "("), "--read: not a regular expression"),
        (("--read", r"\d+"), "done or percent is needed"),
        (("--read", r"(?P<done>\d)(?P<size>\d)"), "not size"),
        (("--profile", "ffmpg"), "unknown profile 'ffmpg'; known are none, ffmpeg"),
    ],
)
def test_an_invalid_pattern_is_refused(flags: tuple[str, ...], why: str) -> None:
    with run(NOWHERE, "a", "true", flags=flags) as running:
        assert running.end() == 2
        assert why in running.errors


def test_the_profile_option_overrides_the_program(url: str) -> None:
    program = "print('12/40 done')"
    with run(url, "a", *python(program), flags=("--profile", "none")) as running:
        assert running.end() == 0
    assert "done" not in state(url, "a")


def test_a_dry_run_prints_what_is_read_and_reports_nothing() -> None:
    program = "print('loading 1/4'); print('loading 3/4'); raise SystemExit(3)"
    with run(NOWHERE, "a", *python(program), flags=("--dry-run",)) as running:
        assert running.end() == 3
        assert running.output == b"loading 1/4\nloading 3/4\n"
        assert "gateway: message loading 3/4, phase loading, done 3, total 4" in running.errors
        assert "percent 75.0" in running.errors
        assert running.errors.endswith("gateway: failed, exit code 3\n")


def test_pty_gives_the_command_a_terminal(url: str) -> None:
    program = (
        "import os, sys\n"
        "print(sys.stdout.isatty(), sys.stderr.isatty(), *os.get_terminal_size(1))\n"
        "sys.stdout.write('line\\nline'); sys.stderr.write('end\\n')"
    )
    with run(url, "a", *python(program), flags=("--pty",)) as running:
        assert running.end() == 0
        assert b"True True 80 24\n" in running.output
        assert b"\r" not in running.output
        assert b"line\nline" in running.output


def test_the_pty_has_the_size_of_the_terminal(url: str) -> None:
    program = (
        "import os, signal\n"
        "signal.signal(signal.SIGWINCH, lambda *_: print(*os.get_terminal_size(1), flush=True))\n"
        "print(*os.get_terminal_size(1), flush=True)\n"
        "while os.get_terminal_size(1).columns != 132: signal.pause()"
    )
    command = (*GATEWAY, "run", "a", "--url", url, "--pty", "--", *python(program))
    with Terminal(*command, columns=100, rows=30) as terminal:
        terminal.until("100 30")
        terminal.resize(132, 40)
        terminal.until("132 40")
        assert terminal.end() == 0


@pytest.mark.parametrize("name", ["'a', ", ""])
def test_a_job_in_the_command_joins_the_run(url: str, name: str) -> None:
    """Instead of a new attempt, which would fence off the one that waits for its exit code."""
    program = (
        "from gateway import Job\n"
        f"with Job({name}total=8) as job: job.update(done=2, message='within')\n"
        "print('not the message of a job that has ended')"
    )
    with run(url, "a", *python(program)) as running:
        assert running.end() == 0
        assert running.errors == ""
    ended = state(url, "a")
    assert (ended["attempt"], ended["status"]) == (1, "succeeded")
    assert (ended["done"], ended["total"]) == (2, 8)


def test_a_start_over_http_in_the_command_joins_the_run(url: str) -> None:
    program = (
        "import json, os, urllib.request\n"
        "job, run, url = (os.environ[f'PROGRESS_GATEWAY_{x}'] for x in ('JOB', 'RUN', 'URL'))\n"
        "update = {'start': True, 'run': run, 'done': 2, 'total': 8}\n"
        "url += '/api/jobs/' + job\n"
        "print(urllib.request.urlopen(url, json.dumps(update).encode()).read().decode())"
    )
    with run(url, "a", *python(program)) as running:
        assert running.end() == 0
        assert b'"attempt":1' in running.output
    ended = state(url, "a")
    assert (ended["attempt"], ended["status"], ended["done"]) == (1, "succeeded", 2)


def test_reading_a_flood_of_output_has_a_bounded_cost(url: str) -> None:
    """The whole output arrives, and reading it does not slow the command."""
    program = (
        "import sys\n"
        "line = '/a/path/1/2/3 12/40 37% of things 10.0.0.1/24\\n' * 1000\n"
        "for i in range(200): sys.stdout.write(line)\n"
        "print('copying 3/4')"
    )
    with run(url, "a", *python(program)) as running:
        assert running.end(within=120) == 0
        assert len(running.output) == 46 * 200_000 + 12
    assert state(url, "a")["done"] == 3
