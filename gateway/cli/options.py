"""Options and arguments that several commands have."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ..config import settings
from ..config.settings import Setting
from ..config.settings_file import parse_settings
from ..model.errors import InvalidSettings

__all__ = [
    "config_option",
    "job_argument",
    "job_or_prefix_argument",
    "setting_options",
    "traceparent_from_environment",
]

F = TypeVar("F", bound=Callable[..., Any])


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
                texts, limits = parse_settings(Path(path).read_text("utf-8"))
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
    """Returns a callback for arguments that are job ids: one, or several without repetition."""
    from ..worker.checks import job_id

    try:
        if isinstance(value, str):
            return job_id("JOB", value)
        return tuple(dict.fromkeys(job_id("JOB", job) for job in value))
    except ValueError as error:
        raise click.BadParameter(str(error), context, parameter) from None


def job_or_prefix_argument(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Returns a callback for arguments that are job ids, or beginnings of job ids followed by
    `*`."""
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
