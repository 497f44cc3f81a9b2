"""The end of a job for each kind of exception."""

from __future__ import annotations

import asyncio

import pytest

from gateway.worker.final_state import FinalState, error_text, final_state_after


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("defect")


@pytest.mark.parametrize(
    ("error", "end"),
    [
        (None, FinalState("succeeded")),
        (TypeError("text"), FinalState("failed", "TypeError: text")),
        (AssertionError(), FinalState("failed", "AssertionError")),
        (Mute(), FinalState("failed", "Mute")),
        (KeyboardInterrupt(), FinalState("cancelled")),
        (asyncio.CancelledError(), FinalState("cancelled")),
        (GeneratorExit(), FinalState("cancelled")),
        (SystemExit(), FinalState("succeeded")),
        (SystemExit(0), FinalState("succeeded")),
        (SystemExit(3), FinalState("failed", "SystemExit: 3")),
        (SystemExit("bad input"), FinalState("failed", "SystemExit: bad input")),
        (ExceptionGroup("g", [ValueError("a")]), FinalState("failed", "ValueError: a")),
        (
            BaseExceptionGroup("g", [KeyboardInterrupt(), ExceptionGroup("h", [OSError("x")])]),
            FinalState("failed", "OSError: x"),
        ),
        (
            ExceptionGroup("g", [ValueError("a"), ValueError("b")]),
            FinalState("failed", "ValueError: a; ValueError: b"),
        ),
        (BaseExceptionGroup("g", [KeyboardInterrupt()]), FinalState("cancelled")),
        (BaseExceptionGroup("g", [SystemExit(0)]), FinalState("succeeded")),
        (BaseExceptionGroup("g", [SystemExit(0), KeyboardInterrupt()]), FinalState("cancelled")),
    ],
)
def test_an_exception_maps_to_the_end(error: BaseException | None, end: FinalState) -> None:
    assert final_state_after(error) == end


def test_an_exception_is_described() -> None:
    assert error_text(KeyError("k")) == "KeyError: 'k'"
