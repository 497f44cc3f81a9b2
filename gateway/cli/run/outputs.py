"""Forwards the output of a command at once, and reads it for progress later.

    one forwarding thread per output   copies the output, and adds it to the output's buffer
    one reading thread                 reads the buffers' content, and reports progress to the job

Forwarding never waits for reading: a buffer keeps only the newest `BUFFER_SIZE` bytes. After each
pass the reading thread sleeps long enough to use at most `CPU_SHARE` of a core.
"""

from __future__ import annotations

import logging
import os
import select
import threading
from collections.abc import Callable, Sequence
from time import monotonic, thread_time

from .reader import Reader
from .reporter import Reporter

__all__ = ["OutputBuffer", "Outputs", "pause_after"]

_log = logging.getLogger(__name__)

READ_SIZE = 64 * 1024  # what a pipe holds on Linux
BUFFER_SIZE = 32 * 1024
"""The bytes of each output that are kept until they are read: some hundred lines, which are read
in a few milliseconds."""
CPU_SHARE = 0.04
"""The share of a core that reading may use; 0.05 with the last pass, after which it does not
sleep."""
PASS_INTERVAL = 0.05
"""Minimum number of seconds between two passes: a job sends no updates more often."""
LINE_TIMEOUT = 0.15
"""The number of seconds without output after which an unfinished line is read."""
GRACE = 2.0
"""For how many seconds after the command's end the output of its other processes is forwarded."""
MAX_REMAINING = 1024 * 1024
"""The maximum number of bytes that are forwarded after that: the largest pipe (pipe(7))."""


def pause_after(cpu_seconds: float) -> float:
    """Returns the seconds to sleep after a pass that took `cpu_seconds` of CPU time."""
    return max(PASS_INTERVAL, cpu_seconds * (1 - CPU_SHARE) / CPU_SHARE)


class OutputBuffer:
    """The newest unread bytes of one output. Not thread-safe."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._has_dropped = False

    def __bool__(self) -> bool:
        return bool(self._data)

    def add(self, data: bytes) -> None:
        """Adds `data`; drops the oldest bytes if the buffer is full."""
        self._data += data
        if len(self._data) > BUFFER_SIZE:
            del self._data[:-BUFFER_SIZE]
            self._has_dropped = True

    def pop(self) -> tuple[bytes, bool]:
        """Removes and returns all bytes, and whether bytes before them were dropped."""
        content = bytes(self._data), self._has_dropped
        self._data.clear()
        self._has_dropped = False
        return content


class Outputs:
    """Forwards and reads `sources`: pairs of file descriptors, to read from and to write to."""

    def __init__(
        self,
        sources: Sequence[tuple[int, int]],
        *,
        reader: Callable[[], Reader],
        reporter: Reporter,
        job: str,
    ) -> None:
        self._reporter = reporter
        self._job = job
        self._changed = threading.Condition()
        self._finished = threading.Event()
        self._stop_read_fd, self._stop_write_fd = os.pipe()
        self._inputs: list[tuple[OutputBuffer, Reader]] = []
        self._forwarders: list[threading.Thread] = []
        for source, sink in sources:
            output_reader, buffer = reader(), None
            if sink != 1 or len(sources) == 1 or not output_reader.only_stderr:
                buffer = OutputBuffer()
                self._inputs.append((buffer, output_reader))
            self._forwarders.append(
                threading.Thread(target=self._forward, args=(source, sink, buffer), daemon=True)
            )
        self._reading_thread = threading.Thread(target=self._read_buffers, daemon=True)
        for thread in (*self._forwarders, self._reading_thread):
            thread.start()

    def finish(self) -> None:
        """Waits, after the command's end, until all of its output is forwarded and read.

        This takes as long as the reader of this process's output needs. For other processes that
        have inherited the descriptors this waits at most `GRACE`.
        """
        deadline = monotonic() + GRACE
        for thread in self._forwarders:
            thread.join(max(0, deadline - monotonic()))
        os.close(self._stop_write_fd)  # ends the wait of the forwarders
        for thread in self._forwarders:
            thread.join()
        os.close(self._stop_read_fd)
        self._finished.set()
        with self._changed:
            self._changed.notify()
        self._reading_thread.join()

    def _forward(self, source: int, sink: int, buffer: OutputBuffer | None) -> None:
        """Forwards one output until its end, or until the command has ended and nothing is left."""
        remaining = MAX_REMAINING
        try:
            while True:
                ready, _, _ = select.select([source, self._stop_read_fd], [], [])
                if source not in ready:
                    return
                data = _read(source)
                if self._stop_read_fd in ready:
                    remaining -= len(data)
                if not data or remaining < 0 or not _write(sink, data):
                    return
                if buffer is not None:
                    with self._changed:
                        buffer.add(data)
                        self._changed.notify()
        finally:
            os.close(source)  # a command that still writes gets an error, like at a closed pipe

    def _read_buffers(self) -> None:
        """Reads the buffers until the end. If reading fails, the command continues without it."""
        try:
            lines_read = True
            cpu_time = thread_time()
            while True:
                with self._changed:
                    if not (self._finished.is_set() or self._has_output()):
                        self._changed.wait(None if lines_read else LINE_TIMEOUT)
                    finished = self._finished.is_set()
                    contents = [buffer.pop() for buffer, _ in self._inputs]
                has_data = any(data for data, _ in contents)
                for (_, reader), (data, was_dropped) in zip(self._inputs, contents, strict=True):
                    if was_dropped:
                        reader.skip_output()
                    if data:
                        self._reporter.report(reader.feed(data))
                    if finished or not has_data:
                        self._reporter.report(reader.read_unfinished_line())
                if finished:
                    return
                lines_read = not has_data
                cpu_time_before, cpu_time = cpu_time, thread_time()
                pause = pause_after(cpu_time - cpu_time_before)
                # Not on `_changed`, which is notified of each piece of output.
                self._finished.wait(pause)
        except Exception:  # noqa: BLE001 - our defect, and not the command's
            _log.exception("job %s: reading the output of its command failed", self._job)

    def _has_output(self) -> bool:
        return any(buffer for buffer, _ in self._inputs)


def _read(source: int) -> bytes:
    """Reads the available bytes; returns none at the end of the output."""
    try:
        return os.read(source, READ_SIZE)
    except OSError:  # EIO: all processes have closed the other side of the terminal
        return b""


def _write(sink: int, data: bytes) -> bool:
    """Writes everything; False if the reader has closed it."""
    rest = memoryview(data)
    try:
        while rest:
            try:
                rest = rest[os.write(sink, rest) :]
            except BlockingIOError:  # another process has made our terminal or pipe non-blocking
                select.select([], [sink], [])
    except OSError:
        return False
    return True
