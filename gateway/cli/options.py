"""What commands share: options made from the list of settings, the trace context in which they
are called, and the errors with which they end.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from ..config import settings
from ..config.settings import SETTINGS, Setting
from ..config.settings_file import read_file
from ..model.errors import InvalidInput, InvalidSettings
from .terminal import for_terminal

__all__ = [
    "REFUSED",
    "WRONG",
    "configured",
    "exit_for_setting",
    "give_up",
    "job_argument",
    "job_or_prefix_argument",
    "needs_server",
    "set_by",
    "traceparent",
]

F = TypeVar("F", bound=Callable[..., Any])

FAILED = 1
"""Exit code: the command has failed."""
WRONG = 2
"""Exit code: the call was wrong."""
REFUSED = 3
"""Exit code: the gateway cannot be reached, or refuses the client."""


class CommandFailed(click.ClickException):
    """A command cannot go on: a line for stderr, and the exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.exit_code = code  # type: ignore[misc]  # click declares it for the class

    def format_message(self) -> str:
        return for_terminal(self.message, sys.stderr)


_NAMES = {setting.name: setting for setting in SETTINGS}


def set_by(*settings: Setting) -> Callable[[F], F]:
    """Add the options of some settings; without an option its variable is read."""

    def decorate(function: F) -> F:
        for setting in reversed(settings):  # the order of stacked decorators
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
    if setting.is_flag:
        return {"is_flag": True, "flag_value": "yes", "type": str}
    return {"metavar": setting.metavar}


def configured(command: F) -> F:
    """Add `--config`, whose file sets what neither an option nor a variable sets."""

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


def job_or_prefix_argument(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """The same for arguments that may also be the beginning of job ids, followed by `*`."""
    from ..model.ids import is_job_id_prefix

    prefixes = [one for one in value if one.endswith("*")]
    for one in prefixes:
        if not is_job_id_prefix(one.removesuffix("*")):
            raise click.BadParameter(
                f"{one!r} is not the beginning of a job id and a *", context, parameter
            )
    jobs = [one for one in value if one not in prefixes]
    return (*job_argument(context, parameter, jobs), *dict.fromkeys(prefixes))


def traceparent() -> str | None:
    """The span in which this command was called, if the environment names one.

    As in OpenTelemetry's "Environment Variables as Context Propagation Carriers".
    """
    from ..model.traceparent import is_traceparent

    text = os.environ.get("TRACEPARENT", "")
    return text if is_traceparent(text) else None


def needs_server() -> None:
    """End the command if the packages of the extra `server` are not installed."""
    from ..config.server_packages import how_to_install, missing_server_packages

    missing = missing_server_packages()
    if missing:
        command = click.get_current_context().command_path
        give_up(f"{command} needs the server: {how_to_install(missing)}", code=FAILED)


def give_up(message: str, *, code: int) -> NoReturn:
    """End the command with one line on stderr and this exit code."""
    raise CommandFailed(message, code)


def exit_for_setting(error: InvalidInput) -> NoReturn:
    """End the command because of a wrong setting, naming its option and variable."""
    setting = _NAMES.get(error.field or "")
    where = f"{setting.flag} ({setting.variable}): " if setting else ""
    give_up(f"{where}{error}", code=WRONG)
