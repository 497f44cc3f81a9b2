"""The buffers of unread output, and the pauses of the reading thread."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable
from time import monotonic, thread_time
from typing import Any

import pytest

from gateway.cli.run.outputs import (
    BUFFER_SIZE,
    CPU_SHARE,
    PASS_INTERVAL,
    OutputBuffer,
    Outputs,
    pause_after,
)
from gateway.cli.run.reader import Reader, Reading
from gateway.cli.run.reporter import Reporter


class Job:
    """Keeps the updates."""

    name = "a"

    def __init__(self) -> None:
        self.fields_read: list[dict[str, Any]] = []

    def update(self, **fields: Any) -> None:
        self.fields_read.append(fields)

    @property
    def request(self) -> object: ...
    def on_request(self, function: Callable[[Any], object]) -> None: ...
    def cancel(self, message: str) -> None: ...
    def succeed(self) -> None: ...
    def fail(self, error: str) -> None: ...
    def wait(self) -> object: ...
    def __enter__(self) -> object: ...


def test_a_buffer_keeps_the_newest_bytes() -> None:
    buffer = OutputBuffer()
    buffer.add(b"a" * BUFFER_SIZE)
    assert buffer.pop() == (b"a" * BUFFER_SIZE, False)
    buffer.add(b"a" * 10 + b"b" * BUFFER_SIZE)
    assert buffer.pop() == (b"b" * BUFFER_SIZE, True)
    assert buffer.pop() == (b"", False)


@pytest.mark.parametrize("used", [0.0, 0.001, 0.02, 1.0])
def test_reading_uses_at_most_its_share_of_a_core(used: float) -> None:
    pause = pause_after(used)
    assert pause >= PASS_INTERVAL
    assert used / (used + pause) <= CPU_SHARE + 1e-9


@pytest.mark.parametrize("line", ["y", "/a/path/1/2/3 12/40 37% of things 10.0.0.1/24"])
def test_the_cost_of_reading_a_flood(line: str) -> None:
    """Reading takes at most 5 % of the time between two measurements."""
    looks: list[tuple[float, float]] = []
    enough = threading.Event()

    class Watched(Reader):
        def feed(self, data: bytes) -> Reading:
            looks.append((thread_time(), monotonic()))
            if len(looks) == 6:
                enough.set()
            return super().feed(data)

    source, into = os.pipe()
    sink = os.open(os.devnull, os.O_WRONLY)
    flood = subprocess.Popen(["yes", line], stdout=into)
    os.close(into)
    outputs = Outputs([(source, sink)], reader=Watched, reporter=Reporter(Job()), job="a")
    assert enough.wait(60)
    flood.kill()
    flood.wait()
    outputs.finish()
    os.close(sink)
    (used, began), (used_then, then) = looks[0], looks[5]
    assert used_then - used <= 0.05 * (then - began)


def test_forwarding_does_not_wait_for_a_reader_that_is_stuck() -> None:
    """In this test reading a line never ends."""
    stuck, released = threading.Event(), threading.Event()

    class Slow(Reader):
        def feed(self, data: bytes) -> Any:
            stuck.set()
            released.wait(30)
            return super().feed(data)

    source, into = os.pipe()
    out, sink = os.pipe()
    job = Job()
    outputs = Outputs([(source, sink)], reader=Slow, reporter=Reporter(job), job="a")
    os.write(into, b"1/9\n")
    assert os.read(out, 10) == b"1/9\n"
    assert stuck.wait(30)
    line = b"." * 999 + b"\n"
    for _ in range(400):  # far more than pipes and buffers hold
        os.write(into, line)
        assert os.read(out, len(line)) == line
    os.write(into, b"8/9\n")
    os.close(into)
    released.set()
    outputs.finish()
    assert [fields["done"] for fields in job.fields_read if "done" in fields] == [1, 8]
    for descriptor in (out, sink):
        os.close(descriptor)


def test_100_percent_is_not_shown_before_the_end() -> None:
    reporter = Reporter(job := Job())
    for text in (b"39/40\n", b"40/40\n"):
        reporter.report(Reader().feed(b"1/40\n" + text))
    assert job.fields_read[-1] == {"message": "40/40", "done": 40, "overall": 99}
