"""The options for access to the gateway (`--url`, `--token`, `--token-file`), and the token that
they name.

Commands that report can use a gateway, or directly the Redis of its nodes, like `gateway.Job`.
Other commands need a gateway.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from ..config.settings import TOKEN, TOKEN_FILE, URL, Setting
from ..model.errors import InvalidSettings
from .exits import EXIT_USAGE, fail, fail_for_setting
from .options import setting_options

if TYPE_CHECKING:
    from ..worker.publisher import Token

__all__ = ["gateway_options", "report_options", "require_token"]

F = TypeVar("F", bound=Callable[..., Any])


def report_options(command: F) -> F:
    """Adds these options to a command that reports. The command gets the arguments `url` and
    `token` of `gateway.Job`.

    An option overrides a variable; a token overrides a token file from the same source.
    """
    return _add_gateway_options(command, URL, or_redis=True)


def gateway_options(command: F) -> F:
    """Adds these options to a command that needs a gateway."""
    return _add_gateway_options(command, URL._replace(help="The gateway."), or_redis=False)


def require_token(token: Token) -> str | None:
    """Returns the token, which may be in a file. Ends the command if the file contains none:
    unlike a worker, a command does not wait until another program has written one."""
    from ..worker.publisher import Unreachable
    from ..worker.token import newest_token

    try:
        return newest_token(token)
    except Unreachable as error:
        fail(str(error), code=EXIT_USAGE)


def _add_gateway_options(command: F, url_setting: Setting, *, or_redis: bool) -> F:
    @setting_options(url_setting, TOKEN, TOKEN_FILE)
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

        given_options = {
            name
            for name in ("token", "token_file")
            if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        }
        chosen_token = token_file if given_options == {"token_file"} else token or token_file
        off = or_redis and url.lower() == REPORTING_OFF
        try:
            if not off:
                publisher.check(url, chosen_token)
        except ValueError as error:
            fail_for_setting(InvalidSettings(str(error), field=url_setting.name))
        if not or_redis and not url.startswith(("http://", "https://")):
            needed = f"must be the URL of a gateway, such as {URL.default}, not of its Redis"
            fail_for_setting(InvalidSettings(needed, field=url_setting.name))
        return command(url=url, token=chosen_token, **others)

    return calling  # type: ignore[return-value]  # click has returned the same function
