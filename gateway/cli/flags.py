"""What commands share: flags made from the list of settings, the span in which they are called,
and the one way to give up.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from .. import settings
from ..errors import InvalidInput, InvalidSettings
from ..settings import SETTINGS, Setting
from ..settings_file import read_file

__all__ = [
    "REFUSED",
    "WRONG",
    "complain",
    "configured",
    "give_up",
    "job_argument",
    "set_by",
    "traceparent",
]

F = TypeVar("F", bound=Callable[..., Any])

WRONG = 2
"""Exit code: the call was wrong."""
REFUSED = 3
"""Exit code: the gateway cannot be reached, or will have nothing to do with us."""


class GivesUp(click.ClickException):
    """A command cannot go on: a line for stderr, and the exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.exit_code = code  # type: ignore[misc]  # click declares it for the class


_NAMES = {setting.name: setting for setting in SETTINGS}


def set_by(*settings: Setting) -> Callable[[F], F]:
    """The flags of some settings; a variable is read if its flag is not given."""

    def decorate(function: F) -> F:
        for setting in reversed(settings):  # as decorators on each other would
            function = _flag(setting)(function)
        return function

    return decorate


def _flag(setting: Setting) -> Callable[[F], F]:

    def parse(context: click.Context, parameter: click.Parameter, text: str) -> Any:
        try:
            return setting.read(text)
        except InvalidSettings as error:
            raise click.BadParameter(str(error), context, parameter) from None

    return click.option(
        setting.flag,
        setting.name,
        envvar=setting.variable,
        show_envvar=True,
        default=setting.default,
        show_default=bool(setting.default),
        help=setting.help,
        callback=parse,
        **_shape(setting),
    )


def _shape(setting: Setting) -> dict[str, Any]:
    if setting.switch:
        return {"is_flag": True, "flag_value": "yes", "type": str}
    return {"metavar": setting.metavar}


def configured(command: F) -> F:
    """`--config`, whose file sets what neither a flag nor a variable does."""

    def load(context: click.Context, parameter: click.Parameter, path: str | None) -> None:
        if path:
            try:
                texts, limits = read_file(Path(path).read_text("utf-8"))
            except (OSError, UnicodeDecodeError, InvalidSettings) as error:
                raise click.BadParameter(f"{path}: {error}", context, parameter) from None
            context.default_map = texts
            context.meta["gateway.config"] = path
            context.meta["gateway.limits"] = limits

    return click.option(
        settings.CONFIG.flag,
        envvar=settings.CONFIG.variable,
        show_envvar=True,
        metavar=settings.CONFIG.metavar,
        help=settings.CONFIG.help,
        is_eager=True,
        expose_value=False,
        callback=load,
    )(command)


def job_argument(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """A callback for arguments that are job ids: one, or several without repetition."""
    from ..worker.checks import job_id

    try:
        if isinstance(value, str):
            return job_id("JOB", value)
        return tuple(dict.fromkeys(job_id("JOB", one) for one in value))
    except ValueError as error:
        raise click.BadParameter(str(error), context, parameter) from None


def traceparent() -> str | None:
    """The span in which this command was called, if the environment names one.

    By OpenTelemetry's "Environment Variables as Context Propagation Carriers".
    """
    from ..worker.checks import is_traceparent

    text = os.environ.get("TRACEPARENT", "")
    return text if is_traceparent(text) else None


def give_up(message: str, *, code: int) -> NoReturn:
    """End the command with one line on stderr and this exit code."""
    raise GivesUp(message, code)


def complain(error: InvalidInput) -> NoReturn:
    """End the command because of what was set, naming flag and variable."""
    setting = _NAMES.get(error.field or "")
    where = f"{setting.flag} ({setting.variable}): " if setting else ""
    give_up(f"{where}{error}", code=WRONG)
