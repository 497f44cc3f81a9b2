"""The log: lines for people, JSON for machines, and a limited rate."""

from __future__ import annotations

import json
import logging
import signal
import socket
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.logs import MAX_LINES_PER_SECOND, RateLimitFilter, _structured_formatter

from .conftest import address
from .processes import GATEWAY, Running, Terminal


def record(message: str, *args: object, **extra: object) -> logging.LogRecord:
    logger = logging.getLogger("gateway.test")
    return logger.makeRecord(
        "gateway.test", logging.INFO, __file__, 1, message, args, None, extra=extra
    )


@given(st.text(), st.text())
def test_a_log_line_is_one_json_object(text: str, value: str) -> None:
    line = _structured_formatter(False).format(record("%s", text, value=value))
    assert not [char for char in line if ord(char) < 32]
    fields = json.loads(line)
    assert (fields["level"], fields["logger"]) == ("info", "gateway.test")
    assert set(fields) == {"event", "level", "logger", "timestamp", "value"}


@given(st.text(), st.text())
def test_a_log_line_for_a_terminal_stays_one_line(text: str, value: str) -> None:
    line = _structured_formatter(True).format(record("%s", text, value=value))
    plain = line.replace("\x1b[", "")
    assert not [char for char in plain if ord(char) < 32 and char != "\t"]
    assert len(line.splitlines()) == 1


def test_a_flood_of_log_lines_is_limited_and_counted() -> None:
    now = 0.0
    flood = RateLimitFilter(lambda: now)

    def passes(line: int) -> logging.LogRecord | None:
        log_record = record("x")
        log_record.lineno = line
        return log_record if flood.filter(log_record) else None

    assert sum(passes(1) is not None for _ in range(1_000)) == MAX_LINES_PER_SECOND
    assert passes(2) is not None, "another kind"
    now = 1.0
    later = passes(1)
    assert later is not None
    assert later.__dict__["omitted"] == 1_000 - MAX_LINES_PER_SECOND
    second_round = passes(1)
    assert second_round is not None
    assert "omitted" not in second_round.__dict__


def websocket(url: str, *said: dict[str, Any]) -> socket.socket:
    host, _, port = url.removeprefix("http://").rpartition(":")
    client = socket.create_connection((host, int(port)), timeout=10)
    client.sendall(
        b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        b"X-Forwarded-For: 192.0.2.7\r\n\r\n"
    )
    for command in said:
        text = json.dumps(command).encode()
        client.sendall(bytes([0x81, 0x80 | len(text)]) + bytes(4) + text)
    return client


def lines_of(served: Running, wanted: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    return [line for line in map(json.loads, served.errors.splitlines()) if wanted(line)]


def test_a_connection_can_be_followed_by_its_id() -> None:
    with Running(*GATEWAY, "serve", "--bind", "127.0.0.1:0", "--shutdown-timeout", "1") as served:
        jobs = {"type": "sync_subscriptions", "jobs": ["a", "b"]}
        with websocket(address(served), jobs, jobs, {"type": "ping"}) as client:
            data = b""
            while b"pong" not in data:
                data += client.recv(65_536)
        served.tell(signal.SIGTERM)
        served.end()
        lines = lines_of(served, lambda line: "connection" in line)
    assert [line["event"] for line in lines] == ["subscriptions changed", "connection closed"], (
        "INFO for a change alone"
    )
    assert (lines[0]["added"], lines[0]["removed"]) == (2, 0)
    assert lines[1]["code"] == 1000
    assert {line["connection"] for line in lines} == {lines[0]["connection"]}
    assert {line["client"] for line in lines} == {"192.0.2.7"}


def test_at_a_terminal_the_log_is_human_readable() -> None:
    terminal = Terminal(*GATEWAY, "serve", "--bind", "127.0.0.1:0")
    with terminal:
        terminal.until("Serving on")
        terminal.type("\x03")
        seen = terminal.until("exiting after SIGINT")
    assert "{" not in seen


@pytest.mark.parametrize("level", ["warning", "info"])
def test_the_log_level_is_respected(level: str) -> None:
    serve = ("serve", "--bind", "127.0.0.1:0", "--log-level", level)
    with Running(*GATEWAY, *serve) as served:
        address(served)
        served.tell(signal.SIGTERM)
        served.end()
        assert ("exiting after" in served.errors) == (level == "info")
