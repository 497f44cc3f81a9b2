"""Runs a command as a child process: starts it, forwards signals to it, and waits for its end.

The main thread waits for signals. One of them is SIGCHLD, which is sent at the end of the child.
The threads of `outputs.py` forward and read the command's output.

Signals that would end this process are blocked here and forwarded to the child. The child decides
how to handle them; when it ends, this process ends too. The terminal sends Ctrl-C to every process
in the foreground, so the child has already received it. This process does not forward it again,
because many programs exit at once on a second Ctrl-C. (A signal that another process sends to the
whole process group reaches the child twice, because it cannot be distinguished.)

The signals stay blocked after the child's end, so that none can interrupt the final report to the
gateway. A signal that arrives then shortens the wait for the gateway.

If stdout and stderr of this process are the same (a terminal, `2>&1`), they are the same for the
child, so its lines keep their order. With `pty` both are a new pseudo-terminal, which has the size
of this process's terminal and forwards every byte unchanged. The pseudo-terminal does not become
the *controlling* terminal, and stdin does not change, so keys, job control and Ctrl-C work as
usual.
"""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence

from ...worker.limits import EXIT_TIMEOUT
from .outputs import Outputs
from .reader import Reader
from .reporter import Reported, Reporter

__all__ = ["START_ERROR_EXIT_CODES", "run_child"]

START_ERROR_EXIT_CODES: dict[type[OSError], int] = {FileNotFoundError: 127, PermissionError: 126}
"""The exit codes of shells for commands that cannot be started."""

_TERMINAL_SIGNALS = {signal.SIGINT, signal.SIGQUIT, signal.SIGHUP}
_STOP_SIGNALS = _TERMINAL_SIGNALS | {signal.SIGTERM}
_FORWARDED = _STOP_SIGNALS | {signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM}
_BLOCKED = _FORWARDED | {signal.SIGCHLD, signal.SIGWINCH}
_SI_KERNEL = 0x80
"""`si_code` of a signal that the terminal, not a process, has sent (sigaction(2))."""


def run_child(
    command: Sequence[str],
    job: Reported,
    *,
    reader: Callable[[], Reader] = Reader,
    unit: str | None = None,
    terminal: bool = False,
    grace: float = 10.0,
    environment: Mapping[str, str] | None = None,
) -> int:
    """Runs `command` to its end as `job`; returns its exit code (128 + n for signal n).

    Call it in the main thread, as the last action of this process: if a signal arrives after the
    command's end, the process exits inside this function.

    Args:
        reader: Creates a reader for each of the command's outputs.
        terminal: Whether the command gets a pseudo-terminal.
        environment: Variables to add to this process's environment.
        grace: Seconds from SIGTERM to SIGKILL, if the job accepts `cancel` and a client requests
            it. Nothing else that the gateway does affects the command.

    Raises:
        OSError: The command cannot be started.
    """
    # Blocked before the child or any thread exists, so that no signal is missed.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # some parents ignore it
    signal.signal(signal.SIGWINCH, lambda *_: None)
    pipes = _OutputPipes(terminal)
    try:
        child = _start(command, pipes, mask, os.environ | dict(environment or {}))
    except OSError:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        raise
    job.on_request(lambda request: _terminate(child, grace))
    job.__enter__()  # the exit code of the command ends the job, below
    reporter = Reporter(job, unit=unit)
    outputs = Outputs(pipes.sources, reader=reader, reporter=reporter, job=job.name)
    while child.poll() is None:
        _forward_next_signal(child, pipes)
    code = child.returncode if child.returncode >= 0 else 128 - child.returncode
    _wait_or_signal(outputs.finish)
    _report_end(job, child.returncode)
    if not _wait_or_signal(job.wait):
        os._exit(code)  # at a normal exit the job would be waited for again
    return code


class _OutputPipes:
    """Both ends of the child's outputs: pipes, or a pseudo-terminal."""

    def __init__(self, terminal: bool) -> None:
        self.terminal: int | None = None
        if terminal:
            parent_end, child_end = pty.openpty()
            modes = termios.tcgetattr(child_end)
            modes[1] &= ~termios.OPOST  # no carriage returns that the command did not print
            termios.tcsetattr(child_end, termios.TCSANOW, modes)
            self.terminal = parent_end
            self.resize()
            self.child_descriptors, self.sources = (child_end, child_end), [(parent_end, 1)]
        elif _is_same_file(1, 2):
            parent_end, child_end = os.pipe()
            self.child_descriptors, self.sources = (child_end, child_end), [(parent_end, 1)]
        else:
            out, to_out = os.pipe()
            err, to_err = os.pipe()
            self.child_descriptors, self.sources = (to_out, to_err), [(out, 1), (err, 2)]

    def close_child_descriptors(self) -> None:
        """Closes this process's copies of the child's ends, so that the pipe ends when the child
        exits."""
        for descriptor in set(self.child_descriptors):
            os.close(descriptor)

    def resize(self) -> None:
        """Sets the size of the child's terminal to that of this process's terminal, or to 80 x
        24."""
        if self.terminal is None:
            return
        size = struct.pack("HHHH", 24, 80, 0, 0)
        for descriptor in (1, 2, 0):
            try:
                size = fcntl.ioctl(descriptor, termios.TIOCGWINSZ, size)
            except OSError:
                continue
            break
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, size)


def _is_same_file(one: int, other: int) -> bool:
    try:
        return os.path.sameopenfile(one, other)
    except OSError:  # one of them is closed
        return False


def _start(
    command: Sequence[str], pipes: _OutputPipes, mask: Iterable[int], environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    def unblock() -> None:  # there is no thread yet, so running Python after the fork is safe
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    out, err = pipes.child_descriptors
    try:
        return subprocess.Popen(  # noqa: S603 - running what the user wrote is the purpose
            command, stdout=out, stderr=err, env=environment, preexec_fn=unblock
        )
    finally:
        pipes.close_child_descriptors()


def _forward_next_signal(child: subprocess.Popen[bytes], pipes: _OutputPipes) -> None:
    """Waits for one signal, and forward it unless it is SIGCHLD or the child has received it."""
    if sys.platform == "darwin":  # it has no sigwaitinfo, so the sender is unknown
        number, code = int(signal.sigwait(_BLOCKED)), 0
    else:
        info = signal.sigwaitinfo(_BLOCKED)
        number, code = info.si_signo, info.si_code
    if number == signal.SIGWINCH:
        if pipes.terminal is not None:
            pipes.resize()
            child.send_signal(number)
    elif number in _FORWARDED and not (number in _TERMINAL_SIGNALS and code == _SI_KERNEL):
        child.send_signal(number)


def _wait_or_signal(wait: Callable[[], object]) -> bool:
    """Calls `wait`; after a signal only for `EXIT_TIMEOUT` more. Returns whether it has
    returned."""
    finished = threading.Event()
    main_thread = threading.get_ident()

    def waiting() -> None:
        try:
            wait()
        finally:
            finished.set()
            signal.pthread_kill(main_thread, signal.SIGCHLD)

    threading.Thread(target=waiting, daemon=True).start()
    while not finished.is_set():
        if signal.sigwait(_BLOCKED) in _STOP_SIGNALS:
            return finished.wait(EXIT_TIMEOUT)
    return True


def _terminate(child: subprocess.Popen[bytes], grace: float) -> None:
    child.terminate()
    timer = threading.Timer(grace, child.kill)
    timer.daemon = True
    timer.start()


def _report_end(job: Reported, code: int) -> None:
    if code != 0 and job.request is not None:
        job.cancel(
            f"stopped on request ({f'exit code {code}' if code > 0 else _signal_name(-code)})"
        )
    elif code == 0:
        job.succeed()
    elif code > 0:
        job.fail(f"exit code {code}")
    else:
        job.fail(f"killed by {_signal_name(-code)}")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
