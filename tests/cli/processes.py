"""Real processes in tests: their output is read with a deadline, and none outlives its test."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import IO, Self

from .fork_server import ForkedProcess

__all__ = ["GATEWAY", "Running", "Terminal", "clean_environment", "run_command"]

GATEWAY = (sys.executable, "-m", "gateway.cli")
WITHIN = 30.0  # seconds: far more than any step needs, so that only a hanging process fails


def clean_environment(**variables: str) -> dict[str, str]:
    """Returns this process's environment without the gateway's settings, with `variables`, and
    without a shutdown delay, which is useless without a load balancer."""
    inherited = {
        name: v for name, v in os.environ.items() if not name.startswith("PROGRESS_GATEWAY_")
    }
    return inherited | {"PROGRESS_GATEWAY_SHUTDOWN_DELAY": "0"} | variables


def _may_be_forked(command: Sequence[str], env: Mapping[str, str]) -> bool:
    """Returns whether the fork server can start this command: `gateway`, in one process, with the
    variables that this Python has read at its start."""
    return (
        sys.platform == "linux"
        and command[: len(GATEWAY)] == GATEWAY
        and "demo" not in command
        and "--processes" not in command
        and "PROGRESS_GATEWAY_PROCESSES" not in env
        and all(os.environ.get(name) == env[name] for name in env if name.startswith("PYTHON"))
    )


class Running:
    """A running process, in its own session. At the end of the `with` block it and all processes
    that it has started are killed."""

    def __init__(
        self, *command: str, env: Mapping[str, str] | None = None, stdin: int = subprocess.DEVNULL
    ) -> None:
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        variables = clean_environment() | dict(env or {})
        self.process: subprocess.Popen[bytes] | ForkedProcess
        if _may_be_forked(command, variables):
            arguments = command[len(GATEWAY) :]
            self.process = ForkedProcess(
                arguments, env=variables, stdin=stdin, stderr=self._errors.fileno()
            )
        else:
            self.process = subprocess.Popen(
                command,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                bufsize=0,
                env=variables,
                start_new_session=True,
            )
        assert self.process.stdout is not None
        self._stdout = self.process.stdout.fileno()
        self.output = b""
        """All that was read of its stdout."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        with suppress(ProcessLookupError):  # nothing is left
            os.killpg(self.process.pid, signal.SIGKILL)
        with self.process:
            pass
        self._errors.close()

    @property
    def errors(self) -> str:
        """What the process has written to stderr so far."""
        # By `pread`: the process writes at the offset of this very file description.
        number = self._errors.fileno()
        return os.pread(number, os.fstat(number).st_size, 0).decode(errors="replace")

    def tell(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def until(self, text: str, *, times: int = 1, within: float = WITHIN) -> str:
        """Reads the stdout of the process until it contains `text` so many times. Returns all that
        was read so far."""
        deadline = time.monotonic() + within
        wanted = text.encode()
        while self.output.count(wanted) < times:
            seconds_left = deadline - time.monotonic()
            assert seconds_left > 0, f"{text!r} did not come; {self.output!r}, {self.errors!r}"
            if select.select([self._stdout], [], [], seconds_left)[0]:
                data = os.read(self._stdout, 65_536)
                assert data, f"{text!r} never came; {self.output!r}, {self.errors!r}"
                self.output += data
        return self.output.decode()

    def end(self, *, within: float = WITHIN) -> int:
        """Reads the stdout of the process to the end, and waits for its exit. Returns the exit
        code."""
        deadline = time.monotonic() + within
        while True:
            seconds_left = deadline - time.monotonic()
            assert seconds_left > 0, f"it has not ended; {self.output!r}, {self.errors!r}"
            if select.select([self._stdout], [], [], seconds_left)[0]:
                data = os.read(self._stdout, 65_536)
                if not data:
                    return self.process.wait(max(0.1, deadline - time.monotonic()))
                self.output += data


def run_command(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs `gateway` with these arguments, and returns its exit code and what it has written."""
    with Running(*GATEWAY, *arguments, env=variables) as process:
        code = process.end()
        return subprocess.CompletedProcess(arguments, code, process.output.decode(), process.errors)


class Terminal:
    """A process with a terminal of its own. Killed at the end of the `with` block."""

    def __init__(self, *command: str, columns: int = 100, rows: int = 24) -> None:
        self._controller, inside = pty.openpty()
        fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        # `setsid -c` makes it the controlling terminal, so that the process gets Ctrl-C.
        self.process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", *command],
            stdin=inside,
            stdout=inside,
            stderr=inside,
            env=clean_environment(TERM="xterm-256color"),
        )
        os.close(inside)
        self.seen = b""
        """All that was written to it."""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._controller)  # the remaining processes get SIGHUP

    def resize(self, columns: int, rows: int) -> None:
        """Resizes the terminal; its foreground processes get SIGWINCH."""
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self._controller, termios.TIOCSWINSZ, size)

    def type(self, text: str) -> None:
        os.write(self._controller, text.encode())

    def until(self, text: str, *, within: float = WITHIN) -> str:
        """Reads until the output contains `text`; returns all that was read so far."""
        deadline = time.monotonic() + within
        while text.encode() not in self.seen:
            assert self._read(deadline), f"{text!r} never came; {self.seen!r}"
        return self.seen.decode(errors="replace")

    def end(self, *, within: float = WITHIN) -> int:
        """Reads to the end; returns the exit code."""
        deadline = time.monotonic() + within
        while self._read(deadline):
            pass
        return self.process.wait(max(0.1, deadline - time.monotonic()))

    def _read(self, deadline: float) -> bool:
        seconds_left = deadline - time.monotonic()
        assert seconds_left > 0, f"nothing more came; {self.seen!r}"
        if not select.select([self._controller], [], [], seconds_left)[0]:
            return True
        try:
            data = os.read(self._controller, 65_536)
        except OSError:  # EIO: no process has it open any more
            return False
        self.seen += data
        return bool(data)
