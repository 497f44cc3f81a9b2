"""Fuzzing led by coverage: inputs that reach new code are kept and changed further.

`python -m tests.attack.fuzzing TARGET -runs=N` runs one target under Atheris (libFuzzer;
Linux, extra `fuzz`). What breaks it is left as a file `crash-…`, which the same command
runs again if it is named. `-max_total_time=3600` goes on for an hour.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import atheris
import trio

with atheris.instrument_imports(include=["gateway.protocol", "gateway.transports"]):
    from gateway.limits import Limits
    from gateway.protocol import parse_command, parse_update
    from gateway.transports.addresses import Proxies
    from gateway.transports.allowance import FrameCounter
    from gateway.transports.head import BadHead, headers_in, is_upgrade, read_head
    from tests.attack.complaints import complaint

LIMITS = Limits(max_head=512)


def command(data: bytes) -> None:
    """A command is one, or what is wrong with it has one of the documented codes."""
    assert complaint(parse_command, data) in (
        None,
        "invalid_json",
        "unknown_type",
        "invalid_command",
    )


def update(data: bytes) -> None:
    """The same of an update."""
    codes = (None, "invalid_json", "invalid_update", "invalid_job")
    assert complaint(parse_update, data) in codes


class Pieces:
    """A stream of a request's bytes, as small as they may come."""

    def __init__(self, data: bytes) -> None:
        self._left = data
        self.unread_bytes = b""

    async def receive_some(self) -> bytes:
        await trio.lowlevel.checkpoint()
        size = 1 + len(self._left) % 7
        data, self._left = self._left[:size], self._left[size:]
        return data

    def unread(self, data: bytes) -> None:
        self.unread_bytes = data


def head(data: bytes) -> None:
    """A head is read whole and no further, however it comes in pieces."""
    stream: Any = Pieces(data)
    try:
        found: bytes = trio.run(read_head, stream, LIMITS)
    except BadHead:
        return
    assert len(found) <= LIMITS.max_head
    assert data.lstrip(b"\r\n").startswith(found + stream.unread_bytes)
    headers = headers_in(found)
    assert all(name == name.lower() for name in headers)
    is_upgrade(found)
    for form in ("x-forwarded-for", "forwarded"):
        assert Proxies(form=form).client("127.0.0.1", headers)


def frames(data: bytes) -> None:
    """As many frames are counted, however their bytes are cut."""
    whole, cut = FrameCounter(), FrameCounter()
    pieces = [data[at : at + 3] for at in range(0, len(data), 3)]
    assert whole.count(data) == sum(map(cut.count, pieces))


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (command, update, head, frames)
}

if __name__ == "__main__":
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()
