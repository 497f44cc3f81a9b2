"""`gateway token` makes a token, `gateway revoke` revokes one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from ..config import settings
from .client_options import gateway_options, require_token
from .exits import (
    EXIT_FAILED,
    EXIT_UNREACHABLE,
    EXIT_USAGE,
    fail,
    fail_for_setting,
    require_server_packages,
)
from .options import config_option, setting_options
from .terminal import echo

if TYPE_CHECKING:
    from ..worker.publisher import Token

__all__ = ["revoke", "token"]

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}
REVOKE_TIMEOUT = 10.0  # seconds


def parse_duration(context: click.Context, parameter: click.Parameter, text: str) -> float:
    """Returns the seconds in a text such as `90`, `10m`, `12h`, `30d`."""
    match = re.fullmatch(r"([0-9]{1,9})([smhd]?)", text)
    if match is None or int(match[1]) == 0:
        raise click.BadParameter("must be like 90s, 10m, 12h or 30d", context, parameter)
    return float(int(match[1]) * _UNITS[match[2]])


@click.command()
@config_option
@click.option("--watch", multiple=True, metavar="PATTERN", help="Jobs that the token may watch.")
@click.option(
    "--publish", multiple=True, metavar="PATTERN", help="Jobs that the token may publish."
)
@click.option(
    "--control",
    multiple=True,
    metavar="PATTERN",
    help="Jobs to whose workers the token may send requests.",
)
@click.option("--revoke", is_flag=True, help="The token may revoke others.")
@click.option("--ttl", default="10m", show_default=True, callback=parse_duration, metavar="TIME")
@click.option("--subject", metavar="TEXT", help="Subject (sub).")
@click.option("--id", "token_id", metavar="TEXT", help="Id (jti) by which it can be revoked.")
@setting_options(settings.KEYS)
@setting_options(settings.SECRET)
@setting_options(settings.AUDIENCE)
def token(*, ttl: float, keys: tuple[str, ...], secret: str | None, **claims: Any) -> None:
    """Make a token and print it.

    A pattern is a job id, or the beginning of one followed by *. The token is signed with the
    first key that can sign.

    \b
    gateway token --watch 'user:7:*' --ttl 10m            for a page
    gateway token --publish '*' --ttl 30d                 for workers: PROGRESS_GATEWAY_TOKEN
    """
    require_server_packages()
    import time

    from ..auth.key_sources import KeySources
    from ..auth.tokens import sign_token
    from ..model.errors import InvalidInput, InvalidSettings

    try:
        key_sources = KeySources(keys, secret=secret)
        key_sources.load()
    except InvalidSettings as error:
        fail_for_setting(error)
    key = next((key for key in key_sources.keys if key.private is not None), None)
    if key is None:
        fail(
            "no key to sign with: set --keys (PROGRESS_GATEWAY_KEYS) or PROGRESS_GATEWAY_SECRET",
            code=EXIT_USAGE,
        )
    if not any(claims[name] for name in ("watch", "publish", "control", "revoke")):
        fail("the token allows nothing: set --watch or --publish", code=EXIT_USAGE)
    try:
        click.echo(sign_token(key, now=time.time(), ttl=ttl, **claims))
    except InvalidInput as error:
        fail(str(error), code=EXIT_USAGE)


@click.command()
@click.argument("revoked", metavar="TOKEN|ID")
@gateway_options
def revoke(revoked: str, *, url: str, token: Token) -> None:
    """Revoke a token. Connections that use it are closed within one second.

    Give the token itself, or its id. To revoke another token than your own, authenticate with
    one that was made with --revoke (--token, --token-file).

    Exits with 0 if the token is revoked, 1 if the gateway refuses, 2 if the command line is invalid
    or no token is there, 3 if the gateway does not answer.
    """
    import json
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    body, own_or_revoked = _revocation_of(revoked, own=require_token(token))
    request = Request(  # noqa: S310 - the setting is an http(s) URL
        f"{url.rstrip('/')}/api/revocations",
        json.dumps(body).encode(),
        {"authorization": f"Bearer {own_or_revoked}", "content-type": "application/json"},
    )
    try:
        with urlopen(request, timeout=REVOKE_TIMEOUT) as response:  # noqa: S310 - likewise
            echo(f"revoked {json.load(response)['id']}")
    except HTTPError as error:
        detail = _detail(error.read())
        fail(f"the gateway refuses: {error.code} {detail}", code=EXIT_FAILED)
    except OSError as error:
        fail(f"the gateway at {url} does not answer: {error}", code=EXIT_UNREACHABLE)


def _revocation_of(revoked: str, *, own: str | None) -> tuple[dict[str, Any], str]:
    """Returns the body of the request, and the token to authenticate with."""
    if revoked.count(".") != 2:
        if own is None:
            fail(
                "to revoke by id, set --token (PROGRESS_GATEWAY_TOKEN) to one that may",
                code=EXIT_USAGE,
            )
        return {"id": revoked}, own
    require_server_packages()
    import jwt

    try:
        claims = jwt.decode(revoked, options={"verify_signature": False})
    except jwt.PyJWTError as error:
        fail(f"not a token: {error}", code=EXIT_USAGE)
    if not isinstance(claims.get("jti"), str):
        fail("this token has no id (jti): it cannot be revoked", code=EXIT_USAGE)
    body = {"id": claims["jti"]}
    if isinstance(claims.get("exp"), int | float):
        body["until"] = claims["exp"] + 60  # more than the leeway for the gateway's clock
    return body, own or revoked


def _detail(body: bytes) -> str:
    import json

    try:
        return str(json.loads(body)["detail"])
    except (ValueError, KeyError, TypeError):
        return "(it is not a gateway)"
