"""The options with which commands find the gateway: `--url`, `--token`, `--token-file`.

Reports go where those of `gateway.Job` go: to a gateway, or directly to the Redis of its nodes.
Only a gateway can answer requests and revoke tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from ..config.settings import TOKEN, TOKEN_FILE, URL, Setting
from ..model.errors import InvalidSettings
from .options import exit_for_setting, set_by

__all__ = ["gateway_options", "report_options"]

F = TypeVar("F", bound=Callable[..., Any])


def report_options(command: F) -> F:
    """Adds these options to a command that reports; it gets `url` and `token` as `gateway.Job`
    takes them.

    An option overrides a variable; a token overrides a token file from the same source.
    """
    return _calls(command, URL, or_redis=True)


def gateway_options(command: F) -> F:
    """The same for a command that needs a gateway."""
    return _calls(command, URL._replace(help="The gateway."), or_redis=False)


def _calls(command: F, where: Setting, *, or_redis: bool) -> F:
    @set_by(where, TOKEN, TOKEN_FILE)
    @click.pass_context
    @wraps(command)
    def calling(
        context: click.Context,
        /,
        *,
        url: str,
        token: str | None,
        token_file: Path | None,
        **others: Any,
    ) -> Any:
        from ..worker import publisher
        from ..worker.limits import REPORTING_OFF

        flags = {
            name
            for name in ("token", "token_file")
            if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        }
        shown = token_file if flags == {"token_file"} else token or token_file
        off = or_redis and url.lower() == REPORTING_OFF
        try:
            if not off:
                publisher.check(url, shown)
        except ValueError as error:
            exit_for_setting(InvalidSettings(str(error), field=where.name))
        if not or_redis and not url.startswith(("http://", "https://")):
            needed = f"a gateway is needed, such as {URL.default}, and not its Redis"
            exit_for_setting(InvalidSettings(needed, field=where.name))
        return command(url=url, token=shown, **others)

    return calling  # type: ignore[return-value]  # click has returned the same function
