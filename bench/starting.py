"""Measures the time until a gateway serves, and the time in which a worker imports the package."""

from __future__ import annotations

import socket
import statistics
import subprocess
import sys
import time

from . import machine
from .load.feeds import Ports
from .servers import OURS
from .subject import Figures, Subject

__all__ = ["start"]


def start(subject: Subject) -> Figures:
    """Returns the medians of three starts. The subject's own server is not used."""
    serving: list[float] = []
    importing: list[float] = []
    port = machine.free_port()
    ports = Ports(port, subject.run.ports.redis)
    for _ in range(3):
        began = time.monotonic()
        with machine.run_program(
            OURS.start(ports).arguments,
            core=machine.SERVER_CORE,
            ready=lambda: _is_ready(port),
            log=subject.run.log.with_suffix(".start.log"),
        ):
            serving.append(time.monotonic() - began)
        with machine.on_core(machine.SERVER_CORE):
            importing.append(_seconds_of("import gateway") - _seconds_of("pass"))
    return {
        "serve_ms": 1000 * statistics.median(serving),
        "import_ms": 1000 * statistics.median(importing),
    }


def _seconds_of(code: str) -> float:
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.monotonic() - began


def _is_ready(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as sock:
            sock.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return sock.recv(64).startswith(b"HTTP/1.1 200")
    except OSError:
        return False
