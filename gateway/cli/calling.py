"""Whom a command calls, and what it shows: `--url`, `--token`, `--token-file`."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from .. import settings
from .flags import set_by

__all__ = ["calls"]

F = TypeVar("F", bound=Callable[..., Any])


def calls(command: F) -> F:
    """Give a command these flags, and for them `url` and `token`, as `gateway.Job` has them.

    A flag counts before a variable; of two of a kind the token before its file.
    """

    @set_by(settings.URL, settings.TOKEN, settings.TOKEN_FILE)
    @click.pass_context
    @wraps(command)
    def calling(
        context: click.Context, /, *, token: str | None, token_file: Path | None, **others: Any
    ) -> Any:
        flags = {
            name
            for name in ("token", "token_file")
            if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        }
        shown = token_file if flags == {"token_file"} else token or token_file
        return command(token=shown, **others)

    return calling  # type: ignore[return-value]  # click made it a command's again
