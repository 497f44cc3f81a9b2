"""Coverage-guided fuzzing: inputs that reach new code are kept and modified further.

`python -m tests.attack.fuzzing TARGET -runs=N` runs one target under Atheris (libFuzzer; Linux,
extra `fuzz`). An input that fails is written to a file `crash-…`; the same command runs it again if
it is given as an argument. `-max_total_time=3600` runs for an hour.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import atheris
import trio

with atheris.instrument_imports(include=["gateway.protocol", "gateway.transports"]):
    from gateway.model.limits import Limits
    from gateway.protocol.commands import parse_command, parse_update
    from gateway.transports.handshake import parse_upgrade
    from gateway.transports.proxies import Proxies
    from gateway.transports.request_head import BadRequest, headers_in, is_upgrade, read_head
    from tests.attack.complaints import complaint

LIMITS = Limits(max_head=512)


def command(data: bytes) -> None:
    """Checks that a command is valid, or that its error has one of the documented codes."""
    assert complaint(parse_command, data) in (
        None,
        "invalid_json",
        "unknown_type",
        "invalid_command",
    )


def update(data: bytes) -> None:
    """Checks the same for an update."""
    codes = (None, "invalid_json", "invalid_update", "invalid_job")
    assert complaint(parse_update, data) in codes


class Pieces:
    """A stream of a request's bytes, in pieces of any size."""

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
    """Checks that a head is read completely and nothing after it, whatever pieces it arrives in."""
    stream: Any = Pieces(data)
    try:
        head_bytes: bytes = trio.run(read_head, stream, LIMITS)
    except BadRequest:
        return
    assert len(head_bytes) <= LIMITS.max_head
    assert data.lstrip(b"\r\n").startswith(head_bytes + stream.unread_bytes)
    headers = headers_in(head_bytes)
    assert all(name == name.lower() for name in headers)
    is_upgrade(head_bytes)
    for form in ("x-forwarded-for", "forwarded"):
        assert Proxies(form=form).client("127.0.0.1", headers)


def handshake(data: bytes) -> None:
    """Checks that a WebSocket request is refused, or accepted with the response that its key
    needs."""
    try:
        parsed = parse_upgrade(data)
    except BadRequest:
        return
    assert parsed.answer.startswith(b"HTTP/1.1 101 ")
    assert parsed.path
    assert "\n" not in parsed.path


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (command, update, head, handshake)
}

if __name__ == "__main__":
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()
