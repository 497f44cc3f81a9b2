"""The end of a job for each kind of exception."""

from __future__ import annotations

import asyncio

import pytest

from gateway.worker.outcome import End, describe, end_of


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("defect")


@pytest.mark.parametrize(
    ("error", "end"),
    [
        (None, End("succeeded")),
        (TypeError("text"), End("failed", "TypeError: text")),
        (AssertionError(), End("failed", "AssertionError")),
        (Mute(), End("failed", "Mute")),
        (KeyboardInterrupt(), End("cancelled")),
        (asyncio.CancelledError(), End("cancelled")),
        (GeneratorExit(), End("cancelled")),
        (SystemExit(), End("succeeded")),
        (SystemExit(0), End("succeeded")),
        (SystemExit(3), End("failed", "SystemExit: 3")),
        (SystemExit("bad input"), End("failed", "SystemExit: bad input")),
        (ExceptionGroup("g", [ValueError("a")]), End("failed", "ValueError: a")),
        (
            BaseExceptionGroup("g", [KeyboardInterrupt(), ExceptionGroup("h", [OSError("x")])]),
            End("failed", "OSError: x"),
        ),
        (
            ExceptionGroup("g", [ValueError("a"), ValueError("b")]),
            End("failed", "ValueError: a; ValueError: b"),
        ),
        (BaseExceptionGroup("g", [KeyboardInterrupt()]), End("cancelled")),
        (BaseExceptionGroup("g", [SystemExit(0)]), End("succeeded")),
        (BaseExceptionGroup("g", [SystemExit(0), KeyboardInterrupt()]), End("cancelled")),
    ],
)
def test_an_exception_maps_to_the_end(error: BaseException | None, end: End) -> None:
    assert end_of(error) == end


def test_an_exception_is_described() -> None:
    assert describe(KeyError("k")) == "KeyError: 'k'"
