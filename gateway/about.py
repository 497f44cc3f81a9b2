"""What a task is about: facts that every log line of it carries, such as which connection.

A context variable, so children of a task inherit it and no function passes it on.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from types import MappingProxyType

__all__ = ["facts", "is_about"]

_facts: ContextVar[Mapping[str, object]] = ContextVar("facts", default=MappingProxyType({}))


def facts() -> Mapping[str, object]:
    """What the current task is about."""
    return _facts.get()


def is_about(**more: object) -> None:
    """From now on the current task, and those that it starts, are about this too."""
    _facts.set({**_facts.get(), **more})
