"""Starts `gateway` commands in a fraction of the CPU time that a new interpreter needs.

`python -m tests.cli.fork_server` imports the command line once. For each request it forks a
process, which gets the arguments, the environment, the folder and the files of the request, and
runs the command. All else is that of any process: it has its own memory, session, signals and exit
code. Where the start of Python itself matters, tests use `subprocess`.
"""

from __future__ import annotations

import gc
import json
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path

__all__ = ["ForkedProcess"]

ROOT = Path(__file__).parent.parent.parent
MAX_MESSAGE = 150_000
"""Maximum bytes of a request: more than the arguments and the environment of a test."""


class ForkedProcess:
    """A running `gateway` command in its own session, with the methods of `subprocess.Popen` that
    tests use. `stdin` is `subprocess.PIPE` or `subprocess.DEVNULL`; stdout is a pipe."""

    def __init__(
        self, arguments: Sequence[str], *, env: Mapping[str, str], stdin: int, stderr: int
    ) -> None:
        self.returncode: int | None = None
        stdin_of_child, stdin_here = os.pipe()
        stdout_here, stdout_of_child = os.pipe()
        status_here, status_of_child = os.pipe()
        request = json.dumps([list(arguments), dict(env), os.getcwd()]).encode()
        self.pid = _server().start(
            request, [stdin_of_child, stdout_of_child, stderr, status_of_child]
        )
        for end in (stdin_of_child, stdout_of_child, status_of_child):
            os.close(end)
        self.stdin = open(stdin_here, "wb", buffering=0)  # noqa: SIM115 - closed by __exit__
        self.stdout = open(stdout_here, "rb", buffering=0)  # noqa: SIM115 - closed by __exit__
        self._status = open(status_here, "rb", buffering=0)  # noqa: SIM115 - closed by __exit__
        if stdin == subprocess.DEVNULL:
            self.stdin.close()

    def __enter__(self) -> ForkedProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()
        for file in (self.stdin, self.stdout, self._status):
            file.close()

    def poll(self) -> int | None:
        """Returns the exit code; None: the process is running."""
        return self._exit_code(0)

    def wait(self, timeout: float | None = None) -> int:
        """Returns the exit code. Raises `subprocess.TimeoutExpired` after `timeout` seconds."""
        code = self._exit_code(timeout)
        if code is None:
            raise subprocess.TimeoutExpired("gateway", timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _exit_code(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], timeout)[0]:
            status = self._status.read()
            assert status, "the fork server has ended"
            self.returncode = int(status)
        return self.returncode


class _Server:
    """The connection of this process to its fork server."""

    def __init__(self) -> None:
        self._socket, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()
        with other:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.cli.fork_server", str(other.fileno())],
                cwd=ROOT,
                pass_fds=[other.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def start(self, request: bytes, files: Sequence[int]) -> int:
        """Starts a process; returns its pid."""
        assert len(request) <= MAX_MESSAGE
        with self._lock:
            socket.send_fds(self._socket, [request], files)
            pid = self._socket.recv(MAX_MESSAGE)
        assert pid, "the fork server has ended"
        return int(pid)


@cache
def _server() -> _Server:
    """Returns the fork server of this process; it ends when this process does."""
    return _Server()


def _serve(requests: int) -> list[str]:
    """Serves requests. Returns the arguments in each child process, and never in the server."""
    connection = socket.socket(fileno=requests)
    running: dict[int, tuple[int, int]] = {}  # the pid and the pipe for the status, by pidfd
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is not connection:
                    pid, status = running.pop(key.fd)
                    selector.unregister(key.fd)
                    os.close(key.fd)
                    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                    os.write(status, str(code).encode())
                    os.close(status)
                    continue
                request, files, *_ = socket.recv_fds(connection, MAX_MESSAGE, 4)
                if not request:
                    sys.exit()
                pid = os.fork()
                if pid == 0:
                    selector.close()
                    for pidfd, (_, status) in running.items():
                        os.close(pidfd)
                        os.close(status)
                    arguments, env, folder = json.loads(request)
                    _become(env, folder, files)
                    connection.send(str(os.getpid()).encode())
                    connection.close()
                    return list(arguments)
                pidfd = os.pidfd_open(pid)
                *others, status = files
                for file in others:
                    os.close(file)
                running[pidfd] = pid, status
                selector.register(pidfd, selectors.EVENT_READ)


def _become(env: dict[str, str], folder: str, files: Sequence[int]) -> None:
    """Gives this process a session of its own, and what the request has for it."""
    os.setsid()
    for number, file in enumerate(files[:3]):
        os.dup2(file, number)
    for file in files:
        os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    time.tzset()


if __name__ == "__main__":
    from gateway.cli.__main__ import COMMANDS, main

    for module in (*COMMANDS.values(), "gateway.cli.serve.server_process"):
        import_module(module)
    gc.collect()
    gc.freeze()
    sys.argv[1:] = _serve(int(sys.argv[1]))
    gc.unfreeze()
    main()
