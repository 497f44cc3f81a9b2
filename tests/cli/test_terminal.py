"""Texts of gateways and publishers cannot send control characters to the terminal."""

from __future__ import annotations

import json
import re
import sys
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.terminal import CONTROLS, escape, for_terminal
from tests.worker.fake_gateway import FakeGateway, problem

from .conftest import address
from .processes import GATEWAY, Running, Terminal

HOSTILE = "\x1b]0;title\x07 \x9b31m \x7f \u202e \u2066 \u200f \u2028 \x85 end"
CONTROL = re.compile(f"[{CONTROLS}]")


class Tty(StringIO):
    def isatty(self) -> bool:
        return True


@given(st.text() | st.text(st.characters(categories=["Cc", "Cf", "Zl", "Zp"])))
def test_escaped_text_has_no_control_characters(text: str) -> None:
    escaped = escape(text)
    assert not [char for char in escaped if CONTROL.match(char) and char != "\t"]
    assert len(escaped.splitlines()) <= 1


@given(st.dictionaries(st.text(), st.text()), st.booleans())
def test_escaped_json_has_the_same_value(value: dict[str, str], ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    escaped = for_terminal(text, Tty(), json=True)
    assert not CONTROL.search(escaped)
    assert json.loads(escaped) == value


def test_a_pipe_gets_the_text_unchanged() -> None:
    assert for_terminal(HOSTILE, StringIO()) == HOSTILE
    assert for_terminal(HOSTILE, StringIO(), json=True) == HOSTILE


def terminal_output(*command: str) -> str:
    """Returns all that a command prints to its terminal, without the line ends."""
    with Terminal(*GATEWAY, *command) as terminal:
        terminal.end()
    text = terminal.seen.decode()
    assert "end" in text
    return text.replace("\r\n", "").replace("\n", "")


@pytest.mark.parametrize("field", [None, "message"])
def test_the_error_line_of_publish(fake_gateway: FakeGateway, field: str | None) -> None:
    fake_gateway.answers.append(problem(400, HOSTILE, field=field))
    assert not CONTROL.search(
        terminal_output("publish", "a", "--percent", "1", "--url", fake_gateway.url)
    )


def test_the_error_line_of_run(fake_gateway: FakeGateway) -> None:
    fake_gateway.default_answer = problem(403, HOSTILE)
    program = "print(end='')"
    assert not CONTROL.search(
        terminal_output("run", "a", "--url", fake_gateway.url, "--", sys.executable, "-c", program)
    )


def test_frames_of_watch() -> None:
    with Running(*GATEWAY, "serve", "--bind", "127.0.0.1:0") as served:
        url = address(served)
        report = ("publish", "a", "--status", "succeeded", "--message", HOSTILE, "--url", url)
        with Running(*GATEWAY, *report) as publishing:
            assert publishing.end() == 0
        for form in ([], ["--json"]):
            command = ("watch", "a", "--url", url, *form)
            if form:
                text = terminal_output(*command)
                assert not CONTROL.search(text)
                assert json.loads(text)["state"]["message"] == HOSTILE
            with Running(*GATEWAY, *command) as watch_process:
                assert watch_process.end() == 0
                text = watch_process.output.decode()
            if form:
                assert json.loads(text)["state"]["message"] == HOSTILE
                assert "\x9b" in text
