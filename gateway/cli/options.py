"""Options and arguments that several commands have, and the errors with which commands end."""

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
    "EXIT_UNREACHABLE",
    "EXIT_USAGE",
    "config_option",
    "fail",
    "fail_for_setting",
    "job_argument",
    "job_or_prefix_argument",
    "require_server_packages",
    "setting_options",
    "traceparent_from_environment",
]

F = TypeVar("F", bound=Callable[..., Any])

EXIT_FAILED = 1
"""Exit code: the command has failed."""
EXIT_USAGE = 2
"""Exit code: the command line or a setting is invalid."""
EXIT_UNREACHABLE = 3
"""Exit code: the gateway cannot be reached, or refuses the client."""


class CommandFailed(click.ClickException):
    """A command has failed: a line for stderr, and the exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.exit_code = code  # type: ignore[misc]  # click declares it for the class

    def format_message(self) -> str:
        return for_terminal(self.message, sys.stderr)


_SETTINGS_BY_NAME = {setting.name: setting for setting in SETTINGS}


def setting_options(*settings: Setting) -> Callable[[F], F]:
    """Adds the options of settings. If an option is not given, its environment variable is read."""

    def decorate(function: F) -> F:
        for setting in reversed(settings):  # the order of stacked decorators
            function = _setting_option(setting)(function)
        return function

    return decorate


def _setting_option(setting: Setting) -> Callable[[F], F]:

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
        **_option_kind(setting),
    )


def _option_kind(setting: Setting) -> dict[str, Any]:
    if setting.is_flag:
        return {"is_flag": True, "flag_value": "yes", "type": str}
    return {"metavar": setting.metavar}


def config_option(command: F) -> F:
    """Adds `--config`. The file applies to settings without an option and without a variable."""

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
        return tuple(dict.fromkeys(job_id("JOB", job) for job in value))
    except ValueError as error:
        raise click.BadParameter(str(error), context, parameter) from None


def job_or_prefix_argument(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """A callback for arguments that are job ids, or beginnings of job ids followed by `*`."""
    from ..model.ids import is_job_id_prefix

    prefixes = [text for text in value if text.endswith("*")]
    for prefix in prefixes:
        if not is_job_id_prefix(prefix.removesuffix("*")):
            raise click.BadParameter(
                f"{prefix!r} is not the beginning of a job id and a *", context, parameter
            )
    jobs = [text for text in value if text not in prefixes]
    return (*job_argument(context, parameter, jobs), *dict.fromkeys(prefixes))


def traceparent_from_environment() -> str | None:
    """Returns the span in which this command was called, if the environment names one.

    See OpenTelemetry, "Environment Variables as Context Propagation Carriers".
    """
    from ..model.traceparent import is_traceparent

    text = os.environ.get("TRACEPARENT", "")
    return text if is_traceparent(text) else None


def require_server_packages() -> None:
    """Ends the command with an error if the packages of the extra `server` are not installed."""
    from ..config.server_packages import how_to_install, missing_server_packages

    missing = missing_server_packages()
    if missing:
        command = click.get_current_context().command_path
        fail(f"{command} needs the server: {how_to_install(missing)}", code=EXIT_FAILED)


def fail(message: str, *, code: int) -> NoReturn:
    """Ends the command with one line on stderr and this exit code."""
    raise CommandFailed(message, code)


def fail_for_setting(error: InvalidInput) -> NoReturn:
    """Ends the command because of an invalid setting. The error names its option and variable."""
    setting = _SETTINGS_BY_NAME.get(error.field or "")
    where = f"{setting.flag} ({setting.variable}): " if setting else ""
    fail(f"{where}{error}", code=EXIT_USAGE)
