"""The exit codes of commands, and the errors with which commands end."""

from __future__ import annotations

import sys
from typing import NoReturn

import click

from ..config.settings import SETTINGS
from ..model.errors import InvalidInput
from .terminal import for_terminal

__all__ = [
    "EXIT_FAILED",
    "EXIT_UNREACHABLE",
    "EXIT_USAGE",
    "fail",
    "fail_for_setting",
    "require_server_packages",
]

EXIT_FAILED = 1
"""Exit code: the command has failed, or the gateway refuses it."""
EXIT_USAGE = 2
"""Exit code: the command line or a setting is invalid."""
EXIT_UNREACHABLE = 3
"""Exit code: the gateway, or the Redis, does not answer; of `watch` also: it refuses the client."""


class CommandFailed(click.ClickException):
    """A command has failed: a line for stderr, and the exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.exit_code = code  # type: ignore[misc]  # click declares it for the class

    def format_message(self) -> str:
        return for_terminal(self.message, sys.stderr)


_SETTINGS_BY_NAME = {setting.name: setting for setting in SETTINGS}


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
