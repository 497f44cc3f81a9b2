"""Maps the exception that leaves a job's block to the end of the job. Pure.

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

__all__ = ["End", "describe", "end_of"]


class End(NamedTuple):
    """How a job ended."""

    status: Literal["succeeded", "failed", "cancelled"]
    error: str | None = None


def end_of(error: BaseException | None) -> End:
    """The end of a job whose block was left by `error` (None: normally)."""
    if error is None:
        return End("succeeded")
    ends = [_end_of_one(leaf) for leaf in _leaves(error)]
    failures = [end.error for end in ends if end.status == "failed" and end.error]
    if failures:
        return End("failed", "; ".join(failures))
    return End("cancelled") if End("cancelled") in ends else End("succeeded")


def describe(error: BaseException) -> str:
    """`error` as "TypeError: text", or "TypeError" if it has no text."""
    name = type(error).__name__
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - a defect in a foreign __str__ must not hide the failure
        text = ""
    return f"{name}: {text}" if text else name


def _end_of_one(error: BaseException) -> End:
    if isinstance(error, SystemExit):
        if error.code is None or error.code == 0:
            return End("succeeded")
        return End("failed", describe(error))
    return End("failed", describe(error)) if isinstance(error, Exception) else End("cancelled")


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
