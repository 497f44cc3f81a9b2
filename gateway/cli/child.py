"""A command as a child process: its output forwarded and read, its signals passed on.

    main thread   waits for signals; SIGCHLD is one of them, so it also waits for the end
    two pumps     a thread for each output: read, write on at once, read off the progress

Signals that would end this process are blocked here and passed on to the child, which
decides what they mean; it ends, and with it we do. A Ctrl-C has already reached the child,
because a terminal signals every process in its foreground; it is not passed on a second
time, which many programs would take for "at once". (Who signals a whole group otherwise
tells the child twice: nothing says that of a signal.)

They stay blocked, so that none can come between the child's end and the word of it to the
gateway. One that comes then says to hurry.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from time import monotonic
from typing import IO

from ..worker import Job
from ..worker.limits import EXIT
from .reading import Reader

__all__ = ["EXIT_CODES", "run_child"]

_log = logging.getLogger(__name__)

EXIT_CODES: dict[type[OSError], int] = {FileNotFoundError: 127, PermissionError: 126}
"""What shells say of commands that could not be started."""

READ_SIZE = 64 * 1024  # what a pipe holds on Linux
SETTLED = 0.15
"""Seconds without output after which an unfinished line is read as it stands."""
GRACE = 2.0
"""How long, after the command's end, a process that it left behind is still listened to."""
LEFT = 1024 * 1024
"""How many bytes are forwarded after that: what the largest pipe holds (pipe(7))."""

_FROM_THE_TERMINAL = {signal.SIGINT, signal.SIGQUIT, signal.SIGHUP}
_STOP = _FROM_THE_TERMINAL | {signal.SIGTERM}
_PASSED_ON = _STOP | {signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM}
_WATCHED = _PASSED_ON | {signal.SIGCHLD}
_SI_KERNEL = 0x80
"""`si_code` of a signal that no process has sent (sigaction(2)): the terminal has."""


def run_child(command: Sequence[str], job: Job) -> int:
    """Run `command` to its end as `job`; returns its exit code (128 + n for signal n).

    Raises OSError if it cannot be started. Nothing the gateway does or fails to do
    changes what the command sees. To be called in the main thread, as the last thing of
    this process: if it is told to hurry, it ends here.
    """
    # Blocked before the child and any thread exists: no signal can slip past the wait.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # ignored, as some parents leave it, it is lost
    try:
        child = _start(command, mask)
    except OSError:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        raise
    pumps = _Pumps(child, job)
    while child.poll() is None:
        _pass_on(child)
    code = child.returncode if child.returncode >= 0 else 128 - child.returncode
    _unless_told(pumps.finish)
    _end(job, child.returncode)
    if not _unless_told(job.wait):
        os._exit(code)  # at a normal exit the job would be waited for again
    return code


def _start(command: Sequence[str], mask: Iterable[int]) -> subprocess.Popen[bytes]:
    def unblock() -> None:  # there is no thread yet, so running Python after the fork is safe
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    return subprocess.Popen(  # noqa: S603 - running what the user wrote is the purpose
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        preexec_fn=unblock,
    )


class _Pumps:
    """The two threads that forward and read the output of `child`."""

    def __init__(self, child: subprocess.Popen[bytes], job: Job) -> None:
        job.update()
        self._over, self._ended = os.pipe()
        self._threads = []
        for source, sink in ((child.stdout, 1), (child.stderr, 2)):
            assert source is not None  # noqa: S101 - for the type checker
            arguments = (source, sink, self._over, job)
            self._threads.append(threading.Thread(target=_pump, args=arguments, daemon=True))
        for thread in self._threads:
            thread.start()

    def finish(self) -> None:
        """Wait, after the child's end, until all that it said is forwarded.

        As long as whoever reads our output takes; but what other processes say, which
        have inherited its output, is waited for no longer than `GRACE`.
        """
        deadline = monotonic() + GRACE
        for thread in self._threads:
            thread.join(max(0, deadline - monotonic()))
        os.close(self._ended)  # the pumps see it
        for thread in self._threads:
            thread.join()
        os.close(self._over)


def _pass_on(child: subprocess.Popen[bytes]) -> None:
    """Wait for one signal, and give it to the child unless the child has it or is it."""
    if sys.platform == "darwin":  # it has no sigwaitinfo, so nothing tells who sent it
        number, code = int(signal.sigwait(_WATCHED)), 0
    else:
        info = signal.sigwaitinfo(_WATCHED)
        number, code = info.si_signo, info.si_code
    if number in _PASSED_ON and not (number in _FROM_THE_TERMINAL and code == _SI_KERNEL):
        child.send_signal(number)


def _unless_told(wait: Callable[[], object]) -> bool:
    """Call `wait`, for `EXIT` seconds more if a signal says to stop; whether it has ended."""
    over = threading.Event()
    main = threading.get_ident()

    def waiting() -> None:
        try:
            wait()
        finally:
            over.set()
            signal.pthread_kill(main, signal.SIGCHLD)

    threading.Thread(target=waiting, daemon=True).start()
    while not over.is_set():
        if signal.sigwait(_WATCHED) in _STOP:
            return over.wait(EXIT)
    return True


def _pump(source: IO[bytes], sink: int, over: int, job: Job) -> None:
    """Forward one output until its end, or until the command is over and nothing is left."""
    listener = _Listener(job)
    readable = source.fileno()
    left = LEFT
    with source:
        while True:
            ready, _, _ = select.select([readable, over], [], [], SETTLED)
            if readable in ready:
                data = os.read(readable, READ_SIZE)
                if over in ready:
                    left -= len(data)
                if not data or left < 0 or not _write(sink, data):
                    break  # closed: a command that goes on writing learns it, as in a pipe
                listener.hear(data)
            elif over in ready:
                break
            else:
                listener.hear(None)
                # Nothing is new until something comes.
                select.select([readable, over], [], [])
    listener.hear(None)


class _Listener:
    """Tells the job what one output says. If that fails, the command goes on unheard."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._reader = Reader()
        self._deaf = False

    def hear(self, data: bytes | None) -> None:
        """`data` has come; None: nothing more has, for a while. Raises nothing."""
        if self._deaf:
            return
        try:
            reading = self._reader.settle() if data is None else self._reader.feed(data)
            said = {name: value for name, value in reading._asdict().items() if value is not None}
            if said:
                self._job.update(**said)
        except Exception:  # noqa: BLE001 - our defect, and not the command's
            self._deaf = True
            _log.exception("job %s: what its command prints is read no more", self._job.name)


def _write(sink: int, data: bytes) -> bool:
    """Write everything; False if nobody reads it any more."""
    rest = memoryview(data)
    try:
        while rest:
            try:
                rest = rest[os.write(sink, rest) :]
            except BlockingIOError:  # somebody has set our terminal or pipe so
                select.select([], [sink], [])
    except OSError:
        return False
    return True


def _end(job: Job, code: int) -> None:
    if code == 0:
        job.succeed()
    elif code > 0:
        job.fail(f"exit code {code}")
    else:
        job.fail(f"killed by {_name(-code)}")


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
