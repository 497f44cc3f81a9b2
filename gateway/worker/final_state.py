"""The final state of a job, from the exception with which its block ends. Pure.

exception                                        status of the job
-----------------------------------------------  ----------------------------------
none                                             succeeded
SystemExit with no code, or 0                    succeeded
SystemExit with another code                     failed
an Exception                                     failed, with "TypeError: text"
anything else (KeyboardInterrupt, a              cancelled
  cancellation of asyncio or Trio, GeneratorExit)
an exception group                               the most serious status of its members:
                                                 failed, cancelled, succeeded

"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

__all__ = ["FinalState", "error_text", "final_state_after"]


class FinalState(NamedTuple):
    """How a job ended: its final status, and its error if it has failed."""

    status: Literal["succeeded", "failed", "cancelled"]
    error: str | None = None


def final_state_after(error: BaseException | None) -> FinalState:
    """Returns the final state of a job whose block ended with `error` (None: without one)."""
    if error is None:
        return FinalState("succeeded")
    final_states = [_final_state_after_one(leaf) for leaf in _leaf_exceptions(error)]
    failures = [end.error for end in final_states if end.status == "failed" and end.error]
    if failures:
        return FinalState("failed", "; ".join(failures))
    return (
        FinalState("cancelled")
        if FinalState("cancelled") in final_states
        else FinalState("succeeded")
    )


def error_text(error: BaseException) -> str:
    """Returns `error` as "TypeError: text", or "TypeError" if it has no text."""
    name = type(error).__name__
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - a defect in a foreign __str__ must not hide the failure
        text = ""
    return f"{name}: {text}" if text else name


def _final_state_after_one(error: BaseException) -> FinalState:
    if isinstance(error, SystemExit):
        if error.code is None or error.code == 0:
            return FinalState("succeeded")
        return FinalState("failed", error_text(error))
    return (
        FinalState("failed", error_text(error))
        if isinstance(error, Exception)
        else FinalState("cancelled")
    )


def _leaf_exceptions(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaf_exceptions(inner)
    else:
        yield error
